//! What a choice holds for.

use halite_hal::{Layout, OpDesc, OpKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An op's name, the dtypes and layouts of its main operands, and the extents that matter. As text:
/// `matmul f32r,f32c,f32r 1x512x512x512`.
///
/// The letter after a dtype says how the operand lies: `r` rows contiguous, `c` columns contiguous, `s`
/// neither. Extents are batch, m, k, n for products, experts first for grouped ones; tokens, heads, width,
/// keys for attention; otherwise the rows and columns of the first operand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    op: String,
    operands: String,
    extents: Vec<u64>,
}

impl Key {
    /// Of an op, with its exact extents.
    pub fn of(desc: &OpDesc) -> Self {
        let main = desc.inputs.iter().take(2).chain(desc.outputs.first());
        let operands: Vec<String> = main.map(|l| format!("{}{}", l.dtype, letter(l))).collect();
        let extents = extents(desc).into_iter().map(|n| n as u64).collect();
        Key { op: desc.kind.name().into(), operands: operands.join(","), extents }
    }

    /// The op's name.
    pub fn op(&self) -> &str {
        &self.op
    }

    /// With each extent rounded up to a power of two.
    pub fn bucket(mut self) -> Self {
        for n in &mut self.extents {
            *n = n.checked_next_power_of_two().unwrap_or(*n);
        }
        self
    }

    /// How far a key of the same op is from this one: first by dtypes and layouts, then by the ratios of
    /// extents; `None` for another op.
    pub(super) fn distance(&self, other: &Key) -> Option<(bool, f64)> {
        if self.op != other.op || self.extents.len() != other.extents.len() {
            return None;
        }
        let log = |n: u64| (n.max(1) as f64).log2();
        let ratios = self.extents.iter().zip(&other.extents).map(|(&a, &b)| (log(a) - log(b)).abs()).sum();
        Some((self.operands != other.operands, ratios))
    }
}

fn letter(l: &Layout) -> char {
    let dense = |axis: usize| l.strides[axis] == 1 || l.shape[axis] <= 1;
    match l.shape.len() {
        0 => 'r',
        rank if dense(rank - 1) => 'r',
        rank if rank >= 2 && dense(rank - 2) => 'c',
        _ => 's',
    }
}

fn extents(desc: &OpDesc) -> Vec<usize> {
    let (i, o) = (&desc.inputs, &desc.outputs);
    let last = |l: &Layout, back: usize| l.shape.len().checked_sub(back).map_or(1, |axis| l.shape[axis]);
    match desc.kind {
        OpKind::Matmul { .. } if i.len() >= 2 && !o.is_empty() => {
            vec![last(&o[0], 3), last(&o[0], 2), last(&i[0], 1), last(&o[0], 1)]
        }
        OpKind::GroupedMatmul { .. } if i.len() >= 2 => {
            vec![last(&i[1], 3), last(&i[0], 2), last(&i[0], 1), last(&i[1], 1)]
        }
        OpKind::GroupedMatmulWeight { .. } if !i.is_empty() && !o.is_empty() => {
            vec![last(&o[0], 3), last(&o[0], 2), last(&i[0], 2), last(&o[0], 1)]
        }
        OpKind::Attention(_) if i.len() >= 2 => attention(&i[0], &i[1]),
        OpKind::AttentionBackward(_) if i.len() >= 3 => attention(&i[1], &i[2]),
        _ => match i.first().or(o.first()) {
            Some(x) => {
                let n = last(x, 1);
                vec![x.shape.elems() / n.max(1), n]
            }
            None => Vec::new(),
        },
    }
}

fn attention(q: &Layout, k: &Layout) -> Vec<usize> {
    q.shape.iter().copied().chain(k.shape.first().copied()).collect()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents: Vec<String> = self.extents.iter().map(u64::to_string).collect();
        write!(f, "{} {} {}", self.op, self.operands, extents.join("x"))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong =
            || format!("{s:?} is no key of a choice, such as \"matmul f32r,f32c,f32r 1x512x512x512\"");
        let [op, operands, extents] = s.split(' ').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let extents = match extents {
            "" => Vec::new(),
            all => all.split('x').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?,
        };
        Ok(Key { op: op.into(), operands: operands.into(), extents })
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::{DType, Op, TensorRef};

    fn t(shape: &[usize]) -> TensorRef {
        TensorRef::slot(0, DType::F32, shape)
    }

    #[test]
    fn keys_say_what_matters_and_are_read_back() {
        let product = Op::matmul(t(&[5, 19]), t(&[7, 19]).transpose(0, 1), t(&[5, 7])).desc();
        let key = Key::of(&product);
        assert_eq!(key.to_string(), "matmul f32r,f32c,f32r 1x5x19x7");
        assert_eq!(key.clone().bucket().to_string(), "matmul f32r,f32c,f32r 1x8x32x8");
        assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        let iota = Op::iota(TensorRef::slot(0, DType::I32, &[3, 4])).desc();
        assert_eq!(Key::of(&iota).to_string(), "iota i32r 3x4");
        let gaps = t(&[3, 4]).with_layout(&[3, 4], &[16, 2]);
        assert!(Key::of(&Op::softmax(gaps, t(&[3, 4])).desc()).to_string().contains("f32s,f32r"));
        for bad in ["", "matmul", "matmul f32r 1x", "matmul f32r 1 2", "matmul f32r -1"] {
            assert!(bad.parse::<Key>().unwrap_err().contains("is no key"), "{bad}");
        }
    }

    #[test]
    fn the_nearest_key_has_the_same_operands_if_any_has() {
        let key = |s: &str| s.parse::<Key>().unwrap();
        let a = key("matmul f32r,f32c,f32r 1x64x64x64");
        let far = a.distance(&key("matmul f32r,f32c,f32r 1x4096x64x64"));
        let other = a.distance(&key("matmul f32r,f32r,f32r 1x64x64x64"));
        assert!(far < other && far == Some((false, 6.0)));
        assert_eq!(a.distance(&key("softmax f32r,f32r 64x64")), None);
        assert_eq!(a.distance(&key("matmul f32r,f32c,f32r 64")), None);
    }
}
