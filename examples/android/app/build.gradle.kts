// This version compiles Kotlin without a plugin of its own. It needs Gradle 9.1 or later.
plugins { id("com.android.application") version "9.0.0" }

/** The processors to build for, by Android's names and Rust's. */
val targets = mapOf("arm64-v8a" to "aarch64-linux-android", "x86_64" to "x86_64-linux-android")

/** The oldest supported version of Android, as an API level. */
val oldest = 28

android {
    namespace = "goldcrest.example"
    compileSdk = 36
    defaultConfig {
        applicationId = "goldcrest.example"
        minSdk = oldest
        targetSdk = 36
        versionCode = 1
        versionName = "1"
        ndk { abiFilters += targets.keys }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    sourceSets["main"].jniLibs.srcDir(layout.buildDirectory.dir("rust"))
}

dependencies {
    implementation("androidx.activity:activity-ktx:1.11.0")
    implementation("androidx.camera:camera-camera2:1.5.0")
    implementation("androidx.camera:camera-lifecycle:1.5.0")
}

val cargo =
    tasks.register<Exec>("cargo") {
        workingDir = rootDir
        commandLine(listOf("cargo", "build", "--release") + targets.values.flatMap { listOf("--target", it) })
        val ndk = providers.environmentVariable("ANDROID_NDK_HOME")
        doFirst {
            val compilers =
                file(ndk.orNull ?: error("ANDROID_NDK_HOME must name the folder of an NDK"))
                    .resolve("toolchains/llvm/prebuilt").listFiles()!!.single().resolve("bin")
            val suffix = if (System.getProperty("os.name").startsWith("Windows")) ".cmd" else ""
            for (target in targets.values) {
                val variable = "CARGO_TARGET_${target.uppercase().replace('-', '_')}_LINKER"
                environment(variable, compilers.resolve("$target$oldest-clang$suffix").path)
            }
        }
    }

val rust =
    tasks.register<Copy>("rust") {
        dependsOn(cargo)
        into(layout.buildDirectory.dir("rust"))
        for ((abi, target) in targets) {
            from(rootDir.resolve("target/$target/release/libgoldcrest_in_android.so")) { into(abi) }
        }
    }

tasks.named("preBuild") { dependsOn(rust) }
