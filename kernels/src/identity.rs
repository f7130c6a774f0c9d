//! Names for what graphics interfaces tell as numbers.

/// The maker with a PCI number, or the number where it isn't a well-known one.
pub fn vendor(id: u32) -> String {
    match id {
        0x1002 => "AMD".into(),
        0x10de => "NVIDIA".into(),
        0x8086 => "Intel".into(),
        0x13b5 => "Arm".into(),
        0x5143 => "Qualcomm".into(),
        0x106b => "Apple".into(),
        0x1010 => "Imagination".into(),
        0x1414 => "Microsoft".into(),
        0x1ed5 => "Moore Threads".into(),
        0x1ae0 => "Google".into(),
        0x10005 => "Mesa".into(),
        other => format!("{other:#06x}"),
    }
}

/// A UUID as it is usually written; none for zeros.
pub fn uuid(bytes: &[u8; 16]) -> Option<String> {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    (bytes != &[0; 16]).then(|| [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        assert_eq!((vendor(0x1ed5), vendor(0x7)), ("Moore Threads".into(), "0x0007".into()));
        let counted = std::array::from_fn(|i| i as u8);
        assert_eq!(uuid(&counted).unwrap(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(uuid(&[0; 16]), None);
    }
}
