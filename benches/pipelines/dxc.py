"""Compiles the HLSL of a manifest with DXC, Direct3D's compiler, as wgpu 30 does.

    python3 benches/pipelines/dxc.py LIBDXCOMPILER MANIFEST

Prints in the format of this folder's Vulkan program: one line per kernel, with `ms=` and the size of its DXIL,
or `ERROR=`. `SKIPPED=` marks kernels without HLSL: wgpu has no matrix units on Direct3D.
"""
import ctypes, pathlib, sys, time, uuid


class DxcBuffer(ctypes.Structure):
    _fields_ = [("ptr", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


UTF8 = 65001
COMPILER = uuid.UUID("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0").bytes_le  # CLSID_DxcCompiler
ICOMPILER3 = uuid.UUID("228b4687-5a6a-4730-900c-9702b2203f54").bytes_le
IRESULT = uuid.UUID("58346cda-dde7-4497-9461-6f87af5e0659").bytes_le
# Indices of methods in their interface's vtable, after the three of IUnknown.
RELEASE, COMPILE = 2, 3
GET_STATUS, GET_RESULT, GET_ERRORS = 3, 4, 5
GET_POINTER, GET_SIZE = 3, 4


def call(this, method, *args, returns=ctypes.c_int32):
    """Calls a method of a COM object."""
    table = ctypes.cast(this, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))).contents
    return ctypes.CFUNCTYPE(returns, ctypes.c_void_p, *map(type, args))(table[method])(this, *args)


def obtain(this, method):
    """Calls a method that returns an object."""
    result = ctypes.c_void_p()
    status = call(this, method, ctypes.pointer(result))
    if status < 0 or not result:
        raise OSError(f"DXC failed with {status & 0xFFFFFFFF:#x}")
    return result


def contents(blob):
    size = call(blob, GET_SIZE, returns=ctypes.c_size_t)
    data = ctypes.string_at(call(blob, GET_POINTER, returns=ctypes.c_void_p), size)
    call(blob, RELEASE)
    return data


class Dxc:
    def __init__(self, library):
        create = ctypes.CDLL(library).DxcCreateInstance
        self.compiler = ctypes.c_void_p()
        status = create(COMPILER, ICOMPILER3, ctypes.byref(self.compiler))
        if status < 0:
            raise OSError(f"DxcCreateInstance failed with {status & 0xFFFFFFFF:#x}")

    def compile(self, text, f16):
        """Returns the DXIL of a compute shader, or raises ValueError with DXC's message."""
        # wgpu-hal 30's arguments; naga does not write HLSL 2021.
        args = ["-E", "main", "-T", "cs_6_2" if f16 else "cs_6_0", "-HV", "2018", "-no-warnings", "-Ges"]
        args += ["-enable-16bit-types"] if f16 else []
        array = (ctypes.c_wchar_p * len(args))(*args)
        source = DxcBuffer(text, len(text), UTF8)
        result = ctypes.c_void_p()
        status = call(self.compiler, COMPILE, ctypes.pointer(source), array, ctypes.c_uint32(len(args)),
                      ctypes.c_void_p(), ctypes.c_char_p(IRESULT), ctypes.pointer(result))
        if status < 0:
            raise OSError(f"DXC failed with {status & 0xFFFFFFFF:#x}")
        verdict = ctypes.c_int32()
        call(result, GET_STATUS, ctypes.pointer(verdict))
        output = contents(obtain(result, GET_ERRORS if verdict.value < 0 else GET_RESULT))
        call(result, RELEASE)
        if verdict.value < 0:
            raise ValueError(output.decode(errors="replace").strip("\0\n"))
        return output


def main():
    library, manifest = sys.argv[1], pathlib.Path(sys.argv[2])
    dxc = Dxc(library)
    print(f"device: {pathlib.Path(library).parent.name}", file=sys.stderr, flush=True)
    for line in manifest.read_text().splitlines():
        file, _, element = line.split("\t")[:3]
        path = manifest.parent / f"{file}.hlsl"
        if not path.exists():
            print(f"{file}\tSKIPPED=no HLSL", flush=True)
            continue
        text = path.read_bytes()
        start = time.perf_counter()
        try:
            dxil = dxc.compile(text, element == "f16")
            row = f"ms={(time.perf_counter() - start) * 1e3:.2f}\tCode size={len(dxil)}"
        except (OSError, ValueError) as error:
            row = "ERROR=" + str(error).replace("\n", " ").replace("\t", " ")
        print(f"{file}\t{row}", flush=True)


if __name__ == "__main__":
    main()
