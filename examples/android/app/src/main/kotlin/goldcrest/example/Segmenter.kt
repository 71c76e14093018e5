package goldcrest.example

import java.nio.ByteBuffer

/** A plane of a frame: one of `android.media.Image.Plane` or of CameraX. */
class Plane(val samples: ByteBuffer, val rowStride: Int, val pixelStride: Int)

/**
 * A segmentation network: a safetensors file with its `config.json`, or the demo's network of shapes. Errors are
 * `RuntimeException`s. The library is `src/lib.rs`.
 */
class Segmenter(weights: ByteArray? = null, config: String? = null) : AutoCloseable {
    private var handle = open(weights, config)

    /** The GPU or CPU that it runs on. */
    val device: String
        @Synchronized get() = device(opened())

    /**
     * Writes the colours of the classes into a direct buffer of 4 x width x height bytes, as premultiplied RGBA of the
     * upright picture. The first frame of a size takes longer: it compiles the kernels.
     *
     * @param rotation the clockwise rotation that brings the frame upright, in degrees
     */
    @Synchronized
    fun segment(planes: List<Plane>, width: Int, height: Int, rotation: Int, mask: ByteBuffer) {
        val (y, u, v) = planes
        require((planes.map { it.samples } + mask).all { it.isDirect }) { "the buffers must be direct" }
        segment(
            opened(),
            y.samples, y.rowStride, y.pixelStride,
            u.samples, u.rowStride, u.pixelStride,
            v.samples, v.rowStride, v.pixelStride,
            width, height, rotation, mask,
        )
    }

    @Synchronized
    override fun close() {
        if (handle != 0L) close(handle)
        handle = 0
    }

    private fun opened() = handle.also { check(it != 0L) { "the segmenter is closed" } }

    private external fun open(weights: ByteArray?, config: String?): Long

    private external fun device(handle: Long): String

    private external fun segment(
        handle: Long,
        y: ByteBuffer, yRow: Int, yPixel: Int,
        u: ByteBuffer, uRow: Int, uPixel: Int,
        v: ByteBuffer, vRow: Int, vPixel: Int,
        width: Int, height: Int, rotation: Int, mask: ByteBuffer,
    )

    private external fun close(handle: Long)

    private companion object {
        init {
            System.loadLibrary("goldcrest_in_android")
        }
    }
}
