//! Every dependency, of every platform and feature, keeps to `deny.toml`: its licence is allowed, it comes
//! from crates.io, and it is not a version known to be bad. Nothing is asked of the network when the
//! dependencies have been fetched; that also means that advisories newer than `deny.toml` are not seen.

use semver::{Version, VersionReq};
use serde::Deserialize;
use spdx::{Expression, ParseMode};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    /// `name` or `name:version requirement`.
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Clone, Deserialize)]
struct Package {
    name: String,
    version: Version,
    license: Option<String>,
    /// `None` for the packages of this workspace.
    source: Option<String>,
}

impl Policy {
    fn read() -> Policy {
        toml::from_str(include_str!("../deny.toml")).expect("deny.toml is well-formed")
    }

    /// What is wrong with a package, a line each.
    fn complaints(&self, p: &Package) -> Vec<String> {
        let mut found = Vec::new();
        match p.license.as_deref().map(|text| (text, Expression::parse_mode(text, ParseMode::LAX))) {
            None => found.push("it states no licence".to_string()),
            Some((text, Err(_))) => found.push(format!("{text:?} is no licence expression")),
            Some((text, Ok(expression))) => {
                if !expression.evaluate(|r| self.licenses.allow.contains(&r.to_string())) {
                    found.push(format!("its licence {text:?} is not allowed"));
                }
            }
        }
        if let Some(source) = &p.source
            && source != "registry+https://github.com/rust-lang/crates.io-index"
        {
            found.push(format!("it comes from {source}, not from crates.io"));
        }
        for ban in &self.bans.deny {
            let (name, versions) = ban.spec.split_once(':').unwrap_or((&ban.spec, "*"));
            let versions = VersionReq::parse(versions).expect("deny.toml holds version requirements");
            if name == p.name && versions.matches(&p.version) {
                found.push(format!("banned: {}", ban.reason));
            }
        }
        found
    }
}

/// All packages of the lock file.
fn packages() -> Vec<Package> {
    let metadata = |offline: &[&str]| {
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .args(offline)
            .output()
            .expect("cargo starts")
    };
    let mut out = metadata(&["--offline"]);
    if !out.status.success() {
        // A build fetches only what this platform needs.
        out = metadata(&[]);
    }
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice::<Metadata>(&out.stdout).expect("cargo's own format").packages
}

#[test]
fn dependencies_keep_to_the_policy() {
    let policy = Policy::read();
    let packages = packages();
    assert!(packages.iter().any(|p| p.source.is_some()), "no dependencies were listed");
    let complaints: Vec<String> = packages
        .iter()
        .flat_map(|p| policy.complaints(p).into_iter().map(move |c| format!("{} {}: {c}", p.name, p.version)))
        .collect();
    assert!(complaints.is_empty(), "deny.toml forbids:\n{}", complaints.join("\n"));

    // Not an error; seen with --nocapture.
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for p in &packages {
        versions.entry(&p.name).or_default().push(p.version.to_string());
    }
    for (name, versions) in versions.iter().filter(|(_, v)| v.len() > 1) {
        println!("{name} is there in several versions: {}", versions.join(", "));
    }
}

#[test]
fn the_policy_catches_what_it_should() {
    let policy = Policy::read();
    let good = Package {
        name: "good".into(),
        version: Version::new(1, 0, 0),
        license: Some("MIT/Apache-2.0".into()),
        source: Some("registry+https://github.com/rust-lang/crates.io-index".into()),
    };
    assert_eq!(policy.complaints(&good), [""; 0]);
    let licence = |l: Option<&str>| Package { license: l.map(Into::into), ..good.clone() };
    assert_eq!(policy.complaints(&licence(Some("GPL-3.0-only OR Zlib"))), [""; 0]);
    let smallvec = |v: &str| Package {
        name: "smallvec".into(),
        version: Version::parse(v).expect("a version"),
        ..good.clone()
    };
    assert_eq!(policy.complaints(&smallvec("1.15.0")), [""; 0]);
    for (bad, why) in [
        (licence(None), "no licence"),
        (licence(Some("GPL-3.0-only")), "not allowed"),
        (licence(Some("MIT AND GPL-3.0-only")), "not allowed"),
        (licence(Some("whatever")), "no licence expression"),
        (
            Package { source: Some("git+https://example.org/good".into()), ..good.clone() },
            "not from crates.io",
        ),
        (smallvec("1.6.0"), "RUSTSEC-2021-0003"),
    ] {
        let complaints = policy.complaints(&bad).join("; ");
        assert!(complaints.contains(why), "{complaints:?} does not say {why:?}");
    }
}
