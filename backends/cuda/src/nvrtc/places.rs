//! Where NVRTC may be: where the system's loader looks, in CUDA toolkits, and in Python's packages.

use std::env;
use std::path::{Path, PathBuf};

/// File names, the version that Halite is checked with first.
pub(super) const NAMES: &[&str] = if cfg!(windows) {
    &["nvrtc64_120_0.dll", "nvrtc64_130_0.dll"]
} else {
    &["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"]
};

/// Where libraries are in a toolkit.
const IN_TOOLKIT: &[&str] = if cfg!(windows) { &["bin", "bin/x64"] } else { &["lib64", "lib"] };

/// Where libraries are among Python's packages: of `nvidia-cuda-nvrtc-cu12`, and of `nvidia-cuda-nvrtc`.
const IN_PACKAGES: &[&str] = if cfg!(windows) {
    &["nvidia/cuda_nvrtc/bin", "nvidia/cu13/bin/x86_64"]
} else {
    &["nvidia/cuda_nvrtc/lib", "nvidia/cu13/lib"]
};

/// What to open, in order: names that the system's loader finds first, then the files that are there.
pub(super) fn all() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let toolkits = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    for toolkit in toolkits.chain([PathBuf::from("/usr/local/cuda")]) {
        folders.extend(IN_TOOLKIT.iter().map(|folder| toolkit.join(folder)));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    for packages in python_packages(env::split_paths(&path), env::home_dir().as_deref()) {
        folders.extend(IN_PACKAGES.iter().map(|folder| packages.join(folder)));
    }
    let files = folders.iter().flat_map(|folder| NAMES.iter().map(|name| folder.join(name)));
    NAMES.iter().map(PathBuf::from).chain(files.filter(|file| file.exists())).collect()
}

/// Folders of Python's packages: beside the programs on the path (virtual environments too), and the user's.
fn python_packages(path: impl Iterator<Item = PathBuf>, home: Option<&Path>) -> Vec<PathBuf> {
    let prefixes = path
        .filter(|folder| ["python3", "python3.exe", "python.exe"].iter().any(|p| folder.join(p).exists()))
        .filter_map(|folder| Some(if cfg!(windows) { folder } else { folder.parent()?.to_path_buf() }));
    let own = home.map(|home| home.join(".local"));
    let mut packages = Vec::new();
    for prefix in prefixes.chain(own) {
        // On Windows there is one folder, elsewhere one for each version of Python.
        packages.push(prefix.join("Lib/site-packages"));
        let versions = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
        let mut versions: Vec<PathBuf> = versions
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
            .map(|entry| entry.path())
            .collect();
        versions.sort();
        for version in versions {
            packages.extend(["site-packages", "dist-packages"].map(|folder| version.join(folder)));
        }
    }
    packages.retain(|folder| folder.is_dir());
    packages
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    #[cfg(unix)]
    fn packages_of_environments_and_of_the_user_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let environment = dir.path().join("environment");
        let home = dir.path().join("home");
        let theirs = environment.join("lib/python3.11/site-packages");
        let own = home.join(".local/lib/python3.12/site-packages");
        for folder in [&environment.join("bin"), &dir.path().join("bin"), &theirs, &own] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(environment.join("bin/python3"), "").unwrap();
        // A folder on the path without Python has none.
        let path = [dir.path().join("bin"), environment.join("bin")];
        assert_eq!(python_packages(path.into_iter(), Some(&home)), [theirs, own]);
    }

    #[test]
    fn the_loader_is_asked_first() {
        let all = all();
        assert!(all.len() >= NAMES.len());
        assert_eq!(all[0], Path::new(NAMES[0]));
        assert!(all[NAMES.len()..].iter().all(|file| file.exists()));
    }
}
