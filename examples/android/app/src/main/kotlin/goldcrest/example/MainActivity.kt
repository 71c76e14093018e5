package goldcrest.example

import android.Manifest.permission.CAMERA
import android.content.pm.PackageManager.PERMISSION_GRANTED
import android.graphics.Bitmap
import android.graphics.Matrix
import android.os.Bundle
import android.os.SystemClock
import android.system.Os
import android.util.Size
import android.view.Gravity
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.FrameLayout
import android.widget.ImageView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts.RequestPermission
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.resolutionselector.ResolutionSelector
import androidx.camera.core.resolutionselector.ResolutionStrategy
import androidx.camera.core.resolutionselector.ResolutionStrategy.FALLBACK_RULE_CLOSEST_HIGHER_THEN_LOWER
import androidx.camera.lifecycle.ProcessCameraProvider
import java.io.FileNotFoundException
import java.nio.ByteBuffer
import java.util.concurrent.Executors

/** Shows the camera's frames and, over them, the classes of their pixels. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var picture: ImageView
    private lateinit var overlay: ImageView
    private lateinit var text: TextView

    // Used by the worker only.
    private var segmenter: Segmenter? = null
    private var mask = ByteBuffer.allocateDirect(0)

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        // Compiled kernels and measured times are kept here.
        Os.setenv("GOLDCREST_CACHE_DIR", cacheDir.path, true)
        picture = ImageView(this)
        overlay = ImageView(this)
        text = TextView(this).apply { setPadding(32, 32, 32, 96) }
        val screen = FrameLayout(this)
        screen.addView(picture)
        screen.addView(overlay)
        screen.addView(text, FrameLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT, Gravity.BOTTOM))
        setContentView(screen)

        if (checkSelfPermission(CAMERA) == PERMISSION_GRANTED) {
            start()
        } else {
            registerForActivityResult(RequestPermission()) { granted ->
                if (granted) start() else text.text = "Goldcrest needs the camera."
            }.launch(CAMERA)
        }
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { segmenter?.close() }
        worker.shutdown()
    }

    private fun start() {
        val size = ResolutionStrategy(Size(640, 480), FALLBACK_RULE_CLOSEST_HIGHER_THEN_LOWER)
        // The default format is YUV_420_888. While a frame is segmented, newer ones replace each other.
        val analysis =
            ImageAnalysis.Builder()
                .setResolutionSelector(ResolutionSelector.Builder().setResolutionStrategy(size).build())
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .build()
        analysis.setAnalyzer(worker) { frame -> frame.use(::show) }
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener(
            { provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, analysis) },
            mainExecutor,
        )
    }

    /** Segments a frame, then shows both, so that the classes match the picture under them. */
    private fun show(frame: ImageProxy) {
        try {
            val segmenter = segmenter ?: open().also { segmenter = it }
            val rotation = frame.imageInfo.rotationDegrees
            val turned = rotation % 180 != 0
            val width = if (turned) frame.height else frame.width
            val height = if (turned) frame.width else frame.height
            if (mask.capacity() != 4 * width * height) mask = ByteBuffer.allocateDirect(4 * width * height)
            val planes = frame.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }

            val start = SystemClock.elapsedRealtimeNanos()
            segmenter.segment(planes, frame.width, frame.height, rotation, mask)
            val time = (SystemClock.elapsedRealtimeNanos() - start) / 1e6

            mask.rewind()
            val colours = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
            colours.copyPixelsFromBuffer(mask)
            val upright = Matrix().apply { postRotate(rotation.toFloat()) }
            val shown = Bitmap.createBitmap(frame.toBitmap(), 0, 0, frame.width, frame.height, upright, true)
            val words = "%.1f ms on %s".format(time, segmenter.device)
            runOnUiThread {
                picture.setImageBitmap(shown)
                overlay.setImageBitmap(colours)
                text.text = words
            }
        } catch (error: RuntimeException) {
            runOnUiThread { text.text = error.message }
        }
    }

    /** Opens `app/src/main/assets/model.safetensors` and `config.json` or, without them, the demo's network. */
    private fun open() = Segmenter(asset("model.safetensors"), asset("config.json")?.decodeToString())

    private fun asset(name: String): ByteArray? =
        try {
            assets.open(name).use { it.readBytes() }
        } catch (_: FileNotFoundException) {
            null
        }
}
