//! The kernels that come with the crate are those that models need today, and tools and drivers take them.

mod build;
mod work;

use super::PTX;
pub(crate) use super::archive::find;
use super::archive::{PACKED, Prebuilt};
use super::list::{ARCHIVES, digest_of, hex};
use halite_kernels::digest;
use halite_kernels::testing::slice;
use std::collections::BTreeSet;
use std::process::Command;

const LIST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/prebuilt/kernels.txt"));

/// Digests, versions and names of the kernels that are listed.
fn listed() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let kernels = LIST.lines().filter(|line| !line.starts_with('#') && !line.starts_with("archive"));
    kernels.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0], words[1], words[6])
    })
}

#[test]
fn what_is_listed_is_what_models_need() {
    let kernels = work::kernels();
    if std::env::var_os("HALITE_BLESS").is_some() {
        return build::write_all(&kernels);
    }
    let wanted: BTreeSet<(String, &str)> = kernels.iter().map(|k| (digest_of(&k.text), &*k.name)).collect();
    let listed: BTreeSet<(String, &str)> = listed().map(|(digest, _, name)| (digest.into(), name)).collect();
    let names = |a: &BTreeSet<(String, &str)>, b: &BTreeSet<(String, &str)>| {
        let names: BTreeSet<String> = a.difference(b).map(|(_, name)| name.to_string()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    assert!(
        wanted == listed,
        "compiled kernels are missing ({}) or not needed ({}): run scripts/prebuild-kernels.sh",
        names(&wanted, &listed),
        names(&listed, &wanted)
    );
}

/// Every `n`th kernel from the `i`th on, where `HALITE_SLICE=i/n`.
#[test]
fn tools_take_every_kernel_at_its_version() {
    if [["ptxas", "--version"], ["nvdisasm", "--version"]]
        .iter()
        .any(|[t, v]| Command::new(t).arg(v).output().is_err())
    {
        println!("skipped: ptxas or nvdisasm is missing (scripts/cuda.sh obtains them)");
        return;
    }
    let prebuilt = Prebuilt::new(LIST, PACKED).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (i, n) = slice();
    for (digest, stated, name) in listed().skip(i).step_by(n) {
        for architecture in &ARCHIVES[1..] {
            let [code, ptx] =
                [architecture, PTX].map(|archive| prebuilt.find(digest, archive).unwrap().unwrap());
            let ptx = std::str::from_utf8(ptx).unwrap().trim_end_matches('\0');
            assert_eq!(build::version(ptx), stated, "{name}");
            build::ptxas(ptx, architecture, folder.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let file = folder.path().join("listed.cubin");
            std::fs::write(&file, code).unwrap();
            let said = Command::new("nvdisasm").arg(&file).output().unwrap();
            let text = String::from_utf8_lossy(&said.stdout);
            let entry = halite_kernels::writer::kernel_name(halite_kernels::ENTRY);
            let wanted = [format!(".text.{entry}"), architecture.replace("sm_", "EF_CUDA_SM")];
            assert!(said.status.success() && wanted.iter().all(|w| text.contains(w)), "{name}: {said:?}");
            // It is the least version.
            let place = build::VERSIONS.iter().position(|v| *v == stated).expect("a known version");
            if let Some(lower) = place.checked_sub(1).map(|i| build::VERSIONS[i]) {
                let ptx = ptx.replacen(&format!(".version {stated}"), &format!(".version {lower}"), 1);
                assert!(build::ptxas(&ptx, architecture, folder.path()).is_err(), "{name}: {lower} will do");
            }
        }
    }
}

#[test]
fn other_kernels_and_architectures_are_told_apart() {
    let prebuilt = Prebuilt::new(LIST, PACKED).unwrap();
    let (digest, ..) = listed().next().unwrap();
    let found = |archive| prebuilt.find(digest, archive).unwrap();
    let ptx = found(PTX).unwrap();
    assert!(ptx.ends_with(b"\0") && !ptx[..ptx.len() - 1].contains(&0));
    for architecture in &ARCHIVES[1..] {
        assert!(found(architecture).unwrap().starts_with(b"\x7fELF"), "{architecture}");
    }
    // Not even the next version has the same machine code.
    assert!(["sm_86", "sm_120", ""].iter().all(|other| found(other).is_none()));
    let e = find("another kernel", "sm_90").unwrap_err();
    assert!(e.contains("not among the compiled kernels"), "{e}");
}

/// A list of one kernel, whose archives have this content and packed form.
fn one(content: &[u8], packed: Vec<u8>) -> Result<Prebuilt, String> {
    let archive = |name: &&str| format!("archive {name} {} {}\n", content.len(), hex(digest(&[content])));
    let n = content.len();
    let list = ARCHIVES.iter().map(archive).collect::<String>() + &format!("k 7.0 {n} {n} {n} {n} kernel\n");
    Prebuilt::new(&list, [&*Box::leak(packed.into_boxed_slice()); ARCHIVES.len()])
}

#[test]
fn damaged_archives_are_errors() {
    let content: Vec<u8> = (0..999u32).map(|i| (i * i / 7) as u8).collect();
    let packed = build::pack(1, &content);
    assert_eq!(one(&content, packed.clone()).unwrap().find("k", "sm_90").unwrap(), Some(&content[..]));
    let cut = (0..packed.len() - 8).map(|n| packed[..n].to_vec());
    let flipped = (0..packed.len()).map(|n| {
        let mut flipped = packed.clone();
        flipped[n] ^= 0x55;
        flipped
    });
    for damaged in cut.chain(flipped).chain([Vec::new(), b"something else".to_vec()]) {
        match one(&content, damaged).unwrap().find("k", "sm_90") {
            // Some bytes decide nothing.
            Ok(image) => assert_eq!(image, Some(&content[..])),
            Err(e) => assert!(e.contains("the compiled kernels for sm_90 are damaged: "), "{e}"),
        }
    }
}

#[test]
fn faulty_lists_are_errors() {
    let whole =
        "# note\narchive ptx 5 d\narchive sm_80 0 d\narchive sm_89 0 d\narchive sm_90 0 d\nk 7.0 5 0 0 0 n\n";
    let read = |list: &str| Prebuilt::new(list, [&[]; ARCHIVES.len()]).map(drop);
    read(whole).unwrap();
    for (from, to, why) in [
        ("k 7.0 5", "k 7.0 6", "have 6 bytes, and its archive 5"),
        ("k 7.0 5", "k 7.0 -5", "line 6"),
        ("k 7.0 5 0", "k 7.0 5", "line 6"),
        ("archive ptx 5", "archive ptx", "line 2"),
        ("archive sm_80", "archive sm_81", "line 3"),
        ("k 7.0 5", "j 7.0 18446744073709551615 0 0 0 n\nk 7.0 5", "line 7"),
    ] {
        let e = read(&whole.replacen(from, to, 1)).unwrap_err();
        assert!(e.contains(why), "{e}");
    }
}
