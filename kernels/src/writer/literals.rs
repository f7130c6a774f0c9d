//! Numbers, exactly.

use super::Dialect;

/// A literal, and whether it is a primary expression.
pub(super) fn f32_literal(value: f32, dialect: Dialect) -> (String, bool) {
    if !value.is_finite() {
        let function = dialect.pick("as_float", "__uint_as_float");
        return (format!("{function}({:#010x}u)", value.to_bits()), true);
    }
    let positive = value.is_sign_positive();
    let sign = if positive { "" } else { "-" };
    let decimal = format!("{:?}", value.abs());
    // A decimal that is exact in f64 is exact however the compiler reads it; others are written in binary.
    let exact = decimal.parse::<f64>().is_ok_and(|wide| wide == f64::from(value.abs()))
        && decimal.len() <= 12
        && !decimal.contains('e');
    let text = if exact { format!("{sign}{decimal}f") } else { format!("{sign}{}f", hex(value.abs())) };
    (text, positive)
}

/// A positive finite number in C's hexadecimal notation.
fn hex(value: f32) -> String {
    let bits = value.to_bits();
    let (exponent, mantissa) = ((bits >> 23) as i32, (bits & 0x7f_ffff) << 1);
    if exponent == 0 {
        format!("0x0.{mantissa:06x}p-126")
    } else {
        format!("0x1.{mantissa:06x}p{:+}", exponent - 127)
    }
}

/// A literal, and whether it is a primary expression.
pub(super) fn i32_literal(value: i32) -> (String, bool) {
    if value == i32::MIN { ("(-2147483647 - 1)".into(), true) } else { (value.to_string(), value >= 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_exact() {
        let text = |value: f32| f32_literal(value, Dialect::OpenClC).0;
        assert_eq!(text(1.0), "1.0f");
        assert_eq!(text(-0.0), "-0.0f");
        assert_eq!(text(0.375), "0.375f");
        assert_eq!(text(0.1), "0x1.99999ap-4f");
        assert_eq!(text(-f32::MAX), "-0x1.fffffep+127f");
        assert_eq!(text(f32::from_bits(1)), "0x0.000002p-126f");
        assert_eq!(text(f32::INFINITY), "as_float(0x7f800000u)");
        assert_eq!(f32_literal(f32::NEG_INFINITY, Dialect::CudaC).0, "__uint_as_float(0xff800000u)");
    }

    #[test]
    fn the_smallest_integer_has_no_literal() {
        assert_eq!(i32_literal(i32::MIN).0, "(-2147483647 - 1)");
        assert_eq!(i32_literal(-5), ("-5".into(), false));
    }
}
