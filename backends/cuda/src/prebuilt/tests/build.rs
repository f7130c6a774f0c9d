//! Compiles the kernels that come with the crate, and writes them beside their list.

use super::super::list::{ARCHIVES, digest_of, hex};
use crate::nvrtc::{self, Nvrtc};
use halite_kernels::{Kernel, digest};
use lzma_rust2::{LzmaOptions, LzmaWriter};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Versions of PTX, the first that knows compute capability 8.0 first.
pub(super) const VERSIONS: [&str; 18] = [
    "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "7.7", "7.8", "8.0", "8.1", "8.2", "8.3", "8.4", "8.5",
    "8.6", "8.7", "8.8",
];

/// A kernel in each of [`ARCHIVES`].
struct Built {
    version: &'static str,
    images: [Vec<u8>; ARCHIVES.len()],
}

/// `ptxas`, which says what is wrong.
pub(super) fn ptxas(ptx: &str, architecture: &str, folder: &Path) -> Result<Vec<u8>, String> {
    let [from, to] = ["ptx", "cubin"].map(|end| folder.join(format!("{architecture}.{end}")));
    std::fs::write(&from, ptx).unwrap();
    let ran = Command::new("ptxas").args(["-arch", architecture, "-o"]).arg(&to).arg(&from).output().unwrap();
    match ran.status.success() {
        true => Ok(std::fs::read(&to).unwrap()),
        false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
    }
}

/// The version that PTX states.
pub(super) fn version(ptx: &str) -> &str {
    let line = ptx.lines().find_map(|line| line.strip_prefix(".version "));
    line.expect("PTX states its version").trim()
}

/// Compiles a kernel in CUDA C.
fn build(nvrtc: &Nvrtc, kernel: &Kernel, folder: &Path) -> Built {
    let ptx = nvrtc.compile(&kernel.text).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    let ptx = String::from_utf8(ptx).unwrap();
    let ptx = ptx.trim_end_matches('\0');
    let stated = format!(".version {}", version(ptx));
    let lowered = |version: &str| ptx.replacen(&stated, &format!(".version {version}"), 1);
    let least = VERSIONS.into_iter().find_map(|v| Some((v, ptxas(&lowered(v), ARCHIVES[1], folder).ok()?)));
    let (version, first) = least.unwrap_or_else(|| panic!("{}: ptxas takes it at no version", kernel.name));
    let ptx = lowered(version);
    let machine =
        |architecture| ptxas(&ptx, architecture, folder).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    let images = [format!("{ptx}\0").into_bytes(), first, machine(ARCHIVES[2]), machine(ARCHIVES[3])];
    Built { version, images }
}

/// Compiles the kernels on all processors.
fn build_all(nvrtc: &Nvrtc, kernels: &[Kernel]) -> Vec<Built> {
    let next = AtomicUsize::new(0);
    let built: Mutex<Vec<Option<Built>>> = Mutex::new(kernels.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let folder = tempfile::tempdir().unwrap();
                while let i = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(kernel) = kernels.get(i)
                {
                    let image = build(nvrtc, kernel, folder.path());
                    built.lock().unwrap()[i] = Some(image);
                }
            });
        }
    });
    built.into_inner().unwrap().into_iter().map(|b| b.expect("each was built")).collect()
}

/// Packs the content of the archive at a place of [`ARCHIVES`].
pub(super) fn pack(archive: usize, content: &[u8]) -> Vec<u8> {
    let mut options = LzmaOptions::with_preset(9);
    // Text has no alignment; instructions take 16 bytes.
    (options.lc, options.lp, options.pb) = if archive == 0 { (4, 0, 0) } else { (1, 3, 4) };
    options.nice_len = 273;
    options.dict_size = (content.len() as u32).next_power_of_two().max(1 << 16);
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, Some(content.len() as u64)).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

/// Writes a file as a whole.
fn write(folder: &Path, name: &str, content: &[u8]) {
    let part = folder.join(format!("{name}.part"));
    std::fs::write(&part, content).unwrap();
    std::fs::rename(part, folder.join(name)).unwrap();
}

/// Compiles the kernels, which are in order, and writes list and archives.
pub(super) fn write_all(kernels: &[Kernel]) {
    let nvrtc = nvrtc::get().unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/prebuilt"));
    let built = build_all(nvrtc, kernels);
    let mut list = format!(
        "# Kernels that are compiled already, by NVRTC {} and ptxas. scripts/prebuild-kernels.sh writes this.\n\
         # archive, bytes, digest; then digest of the source, version of PTX, bytes of {}, name\n",
        nvrtc.version(),
        ARCHIVES.join(", ")
    );
    for (i, name) in ARCHIVES.iter().enumerate() {
        let content: Vec<u8> = built.iter().flat_map(|b| b.images[i].iter().copied()).collect();
        let _ = writeln!(list, "archive {name} {} {}", content.len(), hex(digest(&[&content])));
        let packed = pack(i, &content);
        println!("{name}: {} bytes of {}", packed.len(), content.len());
        write(folder, &format!("{name}.lzma"), &packed);
    }
    for (kernel, b) in kernels.iter().zip(&built) {
        let [ptx, sm_80, sm_89, sm_90] = b.images.each_ref().map(Vec::len);
        let digest = digest_of(&kernel.text);
        let _ = writeln!(list, "{digest} {} {ptx} {sm_80} {sm_89} {sm_90} {}", b.version, kernel.name);
    }
    write(folder, "kernels.txt", list.as_bytes());
}
