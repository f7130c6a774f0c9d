# Installs the software drivers and checkers that the tests use, and sets the environment for them. To be
# sourced. Packages are installed on Debian and Ubuntu, as root or through sudo; elsewhere, what isn't there
# is named, and the tests that need it say that they were skipped.
#
#   lavapipe (mesa-vulkan-drivers), SwiftShader (a library in chromium-common): Vulkan
#   PoCL (pocl-opencl-icd): OpenCL
#   oclgrind, vulkan-validationlayers, spirv-tools: checkers

driver_packages=(mesa-vulkan-drivers libvulkan1 pocl-opencl-icd ocl-icd-libopencl1 oclgrind
    vulkan-validationlayers spirv-tools)

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
    local package
    for package in "${driver_packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

# Unpacks SwiftShader's library; it has no package of its own, and chromium itself isn't wanted.
fetch_swiftshader() {
    local dir=$1
    [ -e "$dir/vk_swiftshader_icd.json" ] && return
    mkdir -p "$dir"
    (
        cd "$dir"
        apt-get download -q chromium-common
        dpkg -x chromium-common_*.deb unpacked
        dpkg-deb -f chromium-common_*.deb Version >version
        mv unpacked/usr/lib/chromium/libvk_swiftshader.so .
        # Last: it says that the rest is there.
        mv unpacked/usr/lib/chromium/vk_swiftshader_icd.json .
        rm -r unpacked chromium-common_*.deb
    )
}

install_drivers() {
    local cache="${CARGO_TARGET_DIR:-target}/drivers"
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
        local missing
        mapfile -t missing < <(missing_packages)
        if [ ${#missing[@]} -gt 0 ] || [ ! -e "$cache/swiftshader/vk_swiftshader_icd.json" ]; then
            as_root apt-get update -q
        fi
        if [ ${#missing[@]} -gt 0 ]; then
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -q --no-install-recommends "${missing[@]}"
        fi
        fetch_swiftshader "$cache/swiftshader"
        echo "SwiftShader of chromium-common $(cat "$cache/swiftshader/version")"
        dpkg-query -W -f '${Package} ${Version}\n' "${driver_packages[@]}"
    else
        echo "skipped: drivers are installed on Debian and Ubuntu only; tests use the devices that are here"
    fi
    # Beside the system's Vulkan drivers.
    [ ! -e "$cache/swiftshader/vk_swiftshader_icd.json" ] ||
        export VK_ADD_DRIVER_FILES="$cache/swiftshader/vk_swiftshader_icd.json"
}
