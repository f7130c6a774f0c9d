//! A table of choices, and its file.
//!
//! The file is JSON, names its version and the device that it holds for, and appears whole, by rename.

use super::{Key, TuningError};
use crate::cache::digest;
use halite_hal::DeviceInfo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// The version of the format.
const VERSION: u32 = 1;

/// How far a choice reaches: to shapes whose extents differ by a factor of 2 to this power, all together. What is
/// further away has little in common, so it gets the order that the kernels have themselves.
const REACH: f64 = 6.0;

/// What choices hold for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Identity {
    /// The backend.
    pub backend: String,
    /// The product's name.
    pub name: String,
    /// Driver name and version.
    pub driver: String,
    /// The profile that restricts the device, if any.
    pub profile: Option<String>,
}

impl Identity {
    /// Of a device.
    pub fn of(info: &DeviceInfo) -> Self {
        Identity {
            backend: info.backend.clone(),
            name: info.name.clone(),
            driver: info.driver.clone(),
            profile: info.profile.clone(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.backend, self.name, self.driver)?;
        self.profile.as_ref().map_or(Ok(()), |p| write!(f, " with profile {p}"))
    }
}

/// A variant that isn't used for a key, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Excluded {
    /// What for.
    pub key: Key,
    /// Its name.
    pub variant: String,
    /// Why.
    pub reason: String,
}

/// Choices for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    version: u32,
    /// Where they come from, for readers of the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    about: String,
    device: Identity,
    choices: BTreeMap<Key, String>,
    excluded: Vec<Excluded>,
}

impl Choices {
    /// None yet.
    pub fn new(info: &DeviceInfo) -> Self {
        Choices {
            version: VERSION,
            about: String::new(),
            device: Identity::of(info),
            choices: BTreeMap::new(),
            excluded: Vec::new(),
        }
    }

    /// The file for a device in a cache folder.
    pub fn path(cache_dir: &Path, info: &DeviceInfo) -> PathBuf {
        let Identity { backend, name, driver, profile } = Identity::of(info);
        let profile = profile.unwrap_or_default();
        let parts = [&backend, &name, &driver, &profile].map(|s| s.as_bytes());
        let digits: String = digest(&parts)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        cache_dir.join(format!("tuned-{backend}-{digits}.json"))
    }

    /// Reads the file for a device; `None` if there is none.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or is of another version or device.
    pub fn read(path: &Path, info: &DeviceInfo) -> Result<Option<Self>, TuningError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TuningError::Read { path: path.into(), source }),
        };
        let choices = Self::parse(&text, path)?;
        let wanted = Identity::of(info);
        if choices.device != wanted {
            let (found, wanted) = (Box::new(choices.device), Box::new(wanted));
            return Err(TuningError::Device { path: path.into(), found, wanted });
        }
        Ok(Some(choices))
    }

    /// Reads a file's text; `path` is for messages.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, TuningError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let malformed =
            |e: serde_json::Error| TuningError::Malformed { path: path.into(), reason: e.to_string() };
        let Head { version: found } = serde_json::from_slice(text).map_err(malformed)?;
        if found != VERSION {
            return Err(TuningError::Version { path: path.into(), found, wanted: VERSION });
        }
        serde_json::from_slice(text).map_err(malformed)
    }

    /// Writes the file, so that it survives what happens next.
    ///
    /// # Errors
    /// When it can't be written; then the file is as it was.
    pub fn write(&self, path: &Path) -> Result<(), TuningError> {
        self.try_write(path).map_err(|source| TuningError::Write { path: path.into(), source })
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file.write_all(&text)?;
        // The next thing may be a kernel that takes the machine down.
        file.as_file().sync_all()?;
        file.persist(path)?;
        if cfg!(unix) {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    /// The choices, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.choices.iter().map(|(key, variant)| (key, variant.as_str()))
    }

    /// The variants that aren't used.
    pub fn excluded(&self) -> &[Excluded] {
        &self.excluded
    }

    /// Chooses a variant for a key.
    pub fn choose(&mut self, key: Key, variant: impl Into<String>) {
        self.choices.insert(key, variant.into());
    }

    /// Excludes a variant for a key.
    pub fn exclude(&mut self, key: Key, variant: impl Into<String>, reason: impl Into<String>) {
        let (variant, reason) = (variant.into(), reason.into());
        self.admit(&key, &variant);
        if self.choices.get(&key) == Some(&variant) {
            self.choices.remove(&key);
        }
        self.excluded.push(Excluded { key, variant, reason });
    }

    /// Takes an exclusion back.
    pub fn admit(&mut self, key: &Key, variant: &str) {
        self.excluded.retain(|e| (&e.key, e.variant.as_str()) != (key, variant));
    }

    /// Why a variant is excluded for a key, if it is.
    pub fn why_excluded(&self, key: &Key, variant: &str) -> Option<&str> {
        let mut all = self.excluded.iter();
        all.find(|e| e.variant == variant && e.key == *key).map(|e| e.reason.as_str())
    }

    /// The choice for the nearest key of which `allowed` says yes to the variant: of the same op, of the same
    /// dtypes and layouts if there are any, then by extents; none if all are far away.
    pub fn nearest(&self, key: &Key, allowed: impl Fn(&str) -> bool) -> Option<&str> {
        let mut best: Option<((bool, f64), &str)> = None;
        for (k, variant) in self.iter() {
            let Some(distance) = k.distance(key).filter(|(_, ratios)| *ratios <= REACH) else { continue };
            if best.is_none_or(|(b, _)| distance < b) && allowed(variant) {
                best = Some((distance, variant));
            }
        }
        best.map(|(_, variant)| variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::DeviceKind;

    fn info() -> DeviceInfo {
        let mut info = DeviceInfo::new("vulkan", 0, "a device", DeviceKind::DiscreteGpu);
        info.driver = "driver 1.2".into();
        info
    }

    fn key(s: &str) -> Key {
        s.parse().unwrap()
    }

    fn some() -> Choices {
        let mut choices = Choices::new(&info());
        choices.choose(key("matmul f32r,f32c,f32r 1x1x512x512"), "small");
        choices.choose(key("matmul f32r,f32c,f32r 1x512x512x512"), "large");
        choices.exclude(key("softmax f32r,f32r 64x64"), "team", "wrong: [0] is 1, must be 2");
        choices
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = Choices::path(&dir.path().join("new/folder"), &info());
        assert_eq!(Choices::read(&path, &info()).unwrap(), None);
        some().write(&path).unwrap();
        assert_eq!(Choices::read(&path, &info()).unwrap().unwrap(), some());
        Choices::new(&info()).write(&path).unwrap();
        assert_eq!(Choices::read(&path, &info()).unwrap().unwrap(), Choices::new(&info()));
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "no temporary file is left");
    }

    #[test]
    fn damage_is_an_error_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("choices.json");
        some().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for n in 0..whole.len() - 2 {
            fs::write(&path, &whole[..n]).unwrap();
            let e = Choices::read(&path, &info()).unwrap_err();
            assert!(matches!(e, TuningError::Malformed { .. }), "{n}: {e}");
        }
        let text = String::from_utf8(whole).unwrap();
        for (from, to) in [("\"choices\"", "\"other\""), ("1x512x", "1xx"), ("\"large\"", "3")] {
            fs::write(&path, text.replace(from, to)).unwrap();
            let e = Choices::read(&path, &info()).unwrap_err();
            assert!(matches!(e, TuningError::Malformed { .. }), "{to}: {e}");
        }
    }

    #[test]
    fn other_versions_and_devices_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("choices.json");
        fs::write(&path, b"{\"version\": 7, \"something\": []}").unwrap();
        let e = Choices::read(&path, &info()).unwrap_err().to_string();
        assert!(e.contains("of version 7; this version reads 1"), "{e}");
        some().write(&path).unwrap();
        type Change = fn(&mut DeviceInfo);
        let changes: [(&str, Change); 4] = [
            ("opencl", |i| i.backend = "opencl".into()),
            ("another", |i| i.name = "another".into()),
            ("1.3", |i| i.driver = "driver 1.3".into()),
            ("minimal", |i| i.profile = Some("minimal".into())),
        ];
        for (says, change) in changes {
            let mut other = info();
            change(&mut other);
            let e = Choices::read(&path, &other).unwrap_err();
            assert!(matches!(e, TuningError::Device { .. }) && e.to_string().contains(says), "{e}");
            assert_ne!(Choices::path(dir.path(), &other), Choices::path(dir.path(), &info()));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        // A file where the folder should be: this fails for every user, unlike a mode of read-only.
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        let e = some().write(&file.join("below.json")).unwrap_err();
        assert!(matches!(e, TuningError::Write { .. }), "{e}");
        assert_eq!(fs::read(&file).unwrap(), b"x");
        // A folder where the file should be: what was written beside it is taken away again.
        let taken = dir.path().join("taken.json");
        fs::create_dir(&taken).unwrap();
        assert!(matches!(some().write(&taken).unwrap_err(), TuningError::Write { .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_nearest_choice_that_is_allowed_is_taken() {
        let choices = some();
        let nearest = |k: &str| choices.nearest(&key(k), |_| true);
        assert_eq!(nearest("matmul f32r,f32c,f32r 1x4x512x512"), Some("small"));
        assert_eq!(nearest("matmul bf16r,bf16r,bf16r 1x64x512x512"), Some("large"));
        assert_eq!(nearest("softmax f32r,f32r 64x64"), None);
        assert_eq!(nearest("matmul f32r,f32c,f32r 1x4x8x8"), None, "too far away");
        let k = key("matmul f32r,f32c,f32r 1x16x512x512");
        assert_eq!(choices.nearest(&k, |v| v != "small"), Some("large"));
    }

    #[test]
    fn what_is_excluded_is_chosen_no_more_until_it_is_admitted() {
        let mut choices = some();
        let k = key("matmul f32r,f32c,f32r 1x1x512x512");
        choices.exclude(k.clone(), "small", "first");
        choices.exclude(k.clone(), "small", "second");
        assert_eq!(choices.why_excluded(&k, "small"), Some("second"));
        assert_eq!(choices.excluded().len(), 2);
        assert!(choices.iter().all(|(_, v)| v != "small"));
        choices.admit(&k, "small");
        assert_eq!(choices.why_excluded(&k, "small"), None);
    }
}
