//! What the environment says about the devices that are emulated.

use cudarc::driver::sys::CUresult;

/// How kernels can be made to fail.
const KERNEL_FAILURES: [(&str, CUresult); 3] = [
    ("launch", CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ("illegal-address", CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
    ("misaligned-address", CUresult::CUDA_ERROR_MISALIGNED_ADDRESS),
];

/// What is emulated, and what is made to fail.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    pub devices: usize,
    /// Bytes of each device.
    pub memory: u64,
    /// Compute capability, major and minor number as in `sm_90`.
    pub arch: u32,
    pub checks: bool,
    pub no_device: bool,
    pub refuse_ptx: bool,
    /// Allocations of at least as many bytes fail.
    pub too_much: u64,
    /// Kernels that fail, and how.
    pub kernels: Vec<(String, CUresult)>,
}

impl Config {
    /// Reads the variables that `get` knows; `Err` names the one that isn't understood.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name: &str| get(&format!("HALITE_CUDA_EMULATOR_{name}")).filter(|text| !text.is_empty());
        let number = |name: &str, default: u64, most: u64| match text(name) {
            None => Ok(default),
            Some(given) => given.parse().ok().filter(|n| *n <= most).ok_or_else(|| {
                format!("HALITE_CUDA_EMULATOR_{name}={given}: a whole number up to {most} is expected")
            }),
        };
        let mut config = Config {
            devices: number("DEVICES", 1, 64)? as usize,
            memory: number("MEMORY", 4096, 1 << 20)? << 20,
            arch: number("ARCH", 90, 999)? as u32,
            checks: text("CHECKS").is_none_or(|text| text != "0"),
            no_device: false,
            refuse_ptx: false,
            too_much: u64::MAX,
            kernels: Vec::new(),
        };
        for failure in text("FAIL").iter().flat_map(|list| list.split(',')) {
            config.add_failure(failure).ok_or_else(|| {
                format!(
                    "HALITE_CUDA_EMULATOR_FAIL: {failure:?} isn't known; there are no-device, ptx, \
                     out-of-memory:BYTES, launch:NAME, illegal-address:NAME and misaligned-address:NAME"
                )
            })?;
        }
        Ok(config)
    }

    fn add_failure(&mut self, failure: &str) -> Option<()> {
        match failure.split_once(':') {
            None if failure == "no-device" => self.no_device = true,
            None if failure == "ptx" => self.refuse_ptx = true,
            Some(("out-of-memory", bytes)) => self.too_much = bytes.parse().ok()?,
            Some((how, name)) => {
                let (_, code) = KERNEL_FAILURES.iter().find(|(known, _)| *known == how)?;
                self.kernels.push((name.into(), *code));
            }
            None => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::read(|name| {
            let found = variables.iter().find(|(known, _)| name.ends_with(known));
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn one_hopper_with_checks_unless_said_otherwise() {
        let config = read(&[]).unwrap();
        assert_eq!((config.devices, config.memory, config.arch, config.checks), (1, 4 << 30, 90, true));
        let config =
            read(&[("_DEVICES", "2"), ("_MEMORY", "16"), ("_ARCH", "80"), ("_CHECKS", "0")]).unwrap();
        assert_eq!((config.devices, config.memory, config.arch, config.checks), (2, 16 << 20, 80, false));
    }

    #[test]
    fn failures_are_read_and_unknown_ones_are_named() {
        let config = read(&[("_FAIL", "no-device,ptx,out-of-memory:7,launch:a,illegal-address:b")]).unwrap();
        assert!(config.no_device && config.refuse_ptx);
        assert_eq!(config.too_much, 7);
        let expected = [
            ("a".to_string(), CUresult::CUDA_ERROR_LAUNCH_FAILED),
            ("b".to_string(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
        ];
        assert_eq!(config.kernels, expected);
        for wrong in ["sometimes", "out-of-memory:much", "launch"] {
            let e = read(&[("_FAIL", wrong)]).unwrap_err();
            assert!(e.contains(&format!("{wrong:?}")), "{e}");
        }
        assert!(read(&[("_MEMORY", "-1")]).unwrap_err().contains("_MEMORY=-1"));
    }
}
