# Obtains NVRTC, NVIDIA's compiler of CUDA C, out of the Python package nvidia-cuda-nvrtc-cu12 (90 MB), and lets
# programs find it. To be sourced; nothing is downloaded where it is there already.

install_nvrtc() {
    local dir="${CARGO_TARGET_DIR:-target}/cuda" version=12.9.86 part
    if [ ! -e "$dir/nvrtc-$version/libnvrtc.so.12" ]; then
        if ! python3 -m pip --version >/dev/null 2>&1; then
            echo "skipped: without Python's pip, NVRTC can't be obtained; what compiles CUDA C is skipped"
            return
        fi
        part="$dir/part"
        rm -rf "$part"
        mkdir -p "$part"
        if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$part" \
            "nvidia-cuda-nvrtc-cu12==$version"; then
            echo "skipped: NVRTC can't be obtained; what compiles CUDA C is skipped"
            return
        fi
        python3 -m zipfile -e "$part"/nvidia_cuda_nvrtc_cu12-*.whl "$part"
        rm -rf "$dir/nvrtc-$version"
        mv "$part/nvidia/cuda_nvrtc/lib" "$dir/nvrtc-$version"
        rm -rf "$part"
    fi
    echo "NVRTC $version"
    LD_LIBRARY_PATH="$(cd "$dir/nvrtc-$version" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export LD_LIBRARY_PATH
}
