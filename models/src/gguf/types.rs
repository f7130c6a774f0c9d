//! The element types of ggml: numbers in files, names, and sizes of blocks.
//!
//! Source: `ggml_type` and `type_traits` in ggml's `ggml.h` and `ggml.c`.

use halite_hal::DType;

/// Declares the types with number, name, elements and bytes of a block.
macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $elems:literal, $bytes:literal;)*) => {
        /// How ggml stores elements; all known types. Block types store `block_elems` neighbours of a row
        /// in `block_bytes` bytes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "the field's own names")]
        pub enum GgmlType {
            $($(#[$doc])* $variant = $number,)*
        }

        impl GgmlType {
            /// Every known type, by number.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant),*];

            /// ggml's name, as llama.cpp prints it.
            pub const fn name(self) -> &'static str {
                match self { $(GgmlType::$variant => $name,)* }
            }

            /// Elements in a block; 1 for plain types.
            pub const fn block_elems(self) -> usize {
                match self { $(GgmlType::$variant => $elems,)* }
            }

            /// Bytes of a block; of an element for plain types.
            pub const fn block_bytes(self) -> usize {
                match self { $(GgmlType::$variant => $bytes,)* }
            }
        }
    };
}

types! {
    /// IEEE 754 binary32.
    F32 = 0, "f32", 1, 4;
    /// IEEE 754 binary16.
    F16 = 1, "f16", 1, 2;
    /// 4 bits, a scale for 32.
    Q4_0 = 2, "q4_0", 32, 18;
    /// 4 bits, scale and minimum for 32.
    Q4_1 = 3, "q4_1", 32, 20;
    /// 5 bits, a scale for 32.
    Q5_0 = 6, "q5_0", 32, 22;
    /// 5 bits, scale and minimum for 32.
    Q5_1 = 7, "q5_1", 32, 24;
    /// 8 bits, a scale for 32.
    Q8_0 = 8, "q8_0", 32, 34;
    /// 8 bits, scale and sum for 32; of activations, not of files.
    Q8_1 = 9, "q8_1", 32, 36;
    /// 2 bits in super-blocks.
    Q2_K = 10, "q2_K", 256, 84;
    /// 3 bits in super-blocks.
    Q3_K = 11, "q3_K", 256, 110;
    /// 4 bits in super-blocks.
    Q4_K = 12, "q4_K", 256, 144;
    /// 5 bits in super-blocks.
    Q5_K = 13, "q5_K", 256, 176;
    /// 6 bits in super-blocks.
    Q6_K = 14, "q6_K", 256, 210;
    /// 8 bits in super-blocks; of activations, not of files.
    Q8_K = 15, "q8_K", 256, 292;
    /// About 2.06 bits, from a codebook.
    IQ2_XXS = 16, "iq2_xxs", 256, 66;
    /// About 2.31 bits, from a codebook.
    IQ2_XS = 17, "iq2_xs", 256, 74;
    /// About 3.06 bits, from a codebook.
    IQ3_XXS = 18, "iq3_xxs", 256, 98;
    /// About 1.56 bits, from a codebook.
    IQ1_S = 19, "iq1_s", 256, 50;
    /// 4 bits of uneven levels, a scale for 32.
    IQ4_NL = 20, "iq4_nl", 32, 18;
    /// About 3.44 bits, from a codebook.
    IQ3_S = 21, "iq3_s", 256, 110;
    /// About 2.56 bits, from a codebook.
    IQ2_S = 22, "iq2_s", 256, 82;
    /// 4 bits of uneven levels in super-blocks.
    IQ4_XS = 23, "iq4_xs", 256, 136;
    /// Signed byte.
    I8 = 24, "i8", 1, 1;
    /// Signed 16-bit integer.
    I16 = 25, "i16", 1, 2;
    /// Signed 32-bit integer.
    I32 = 26, "i32", 1, 4;
    /// Signed 64-bit integer.
    I64 = 27, "i64", 1, 8;
    /// IEEE 754 binary64.
    F64 = 28, "f64", 1, 8;
    /// About 1.75 bits, from a codebook.
    IQ1_M = 29, "iq1_m", 256, 56;
    /// bfloat16.
    BF16 = 30, "bf16", 1, 2;
    /// Three levels, about 1.69 bits.
    TQ1_0 = 34, "tq1_0", 256, 54;
    /// Three levels, about 2.06 bits.
    TQ2_0 = 35, "tq2_0", 256, 66;
    /// OCP's microscaling: 4-bit floats, a power of two for 32.
    MXFP4 = 39, "mxfp4", 32, 17;
    /// NVIDIA's 4-bit floats: an 8-bit float scale for 16.
    NVFP4 = 40, "nvfp4", 64, 36;
    /// Signs, a scale for 128.
    Q1_0 = 41, "q1_0", 128, 18;
}

impl GgmlType {
    /// The number in files.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The type of that number, if it is known.
    pub fn from_number(number: u32) -> Option<GgmlType> {
        GgmlType::ALL.iter().copied().find(|t| t.number() == number)
    }

    /// The type of that name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<GgmlType> {
        GgmlType::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// The device's type with the same blocks, if devices have it.
    pub fn dtype(self) -> Option<DType> {
        // Both have the field's names.
        DType::ALL.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(self.name()))
    }

    /// The type in files with the same blocks as a device's.
    pub fn of(dtype: DType) -> Option<GgmlType> {
        GgmlType::from_name(dtype.name())
    }

    /// Bytes of a tensor of row-major `shape`; `None` if its rows aren't whole blocks or the size overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        if !shape.last().unwrap_or(&1).is_multiple_of(self.block_elems()) {
            return None;
        }
        let elems = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size))?;
        (elems / self.block_elems()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for t in GgmlType::ALL {
            assert_eq!(GgmlType::from_number(t.number()), Some(*t));
            assert_eq!(GgmlType::from_name(&t.name().to_uppercase()), Some(*t));
        }
        // Numbers of types that were taken back, and the first that isn't given out.
        for gone in [4, 5, 31, 32, 33, 36, 37, 38, 42] {
            assert_eq!(GgmlType::from_number(gone), None);
        }
    }

    #[test]
    fn devices_have_the_same_blocks() {
        for t in GgmlType::ALL {
            let Some(dtype) = t.dtype() else { continue };
            assert_eq!((dtype.block_elems(), dtype.block_bytes()), (t.block_elems(), t.block_bytes()), "{t}");
            assert_eq!(GgmlType::of(dtype), Some(*t));
        }
        let dtypes = [GgmlType::F32, GgmlType::BF16, GgmlType::I32, GgmlType::Q8_0].map(GgmlType::dtype);
        assert_eq!(dtypes, [Some(DType::F32), Some(DType::BF16), Some(DType::I32), Some(DType::Q8_0)]);
        assert_eq!((GgmlType::of(DType::U32), GgmlType::IQ1_S.dtype()), (None, None));
    }

    #[test]
    fn bytes_want_whole_blocks_in_a_row() {
        assert_eq!(GgmlType::Q4_K.bytes(&[3, 512]), Some(3 * 2 * 144));
        assert_eq!(GgmlType::Q4_K.bytes(&[512, 3]), None);
        assert_eq!(GgmlType::Q4_0.bytes(&[]), None, "a scalar is less than a block");
        assert_eq!(GgmlType::F32.bytes(&[]), Some(4));
        assert_eq!(GgmlType::F32.bytes(&[0, 7]), Some(0));
        assert_eq!(GgmlType::F32.bytes(&[usize::MAX / 2, 1]), None);
        assert_eq!(GgmlType::F32.bytes(&[usize::MAX, 2]), None);
    }
}
