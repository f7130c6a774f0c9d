// Functions that the language bounds too loosely, to about 2 ulp.

// Natural logarithm of a positive number (after Cephes' logf: polynomial on [1/√2, √2]).
fn ln(x: f32) -> f32 {
    var b = bitcast<u32>(x);
    if x == 0.0 { return bitcast<f32>(0xff800000u | (b & 0u)); }
    var scale = 0.0;
    if b < 0x800000u {
        b = bitcast<u32>(x * 8388608.0);
        scale = -23.0;
    }
    if b >= 0x7f800000u { return x; }
    var e = f32(i32(b >> 23u) - 126) + scale;
    var m = bitcast<f32>((b & 0x7fffffu) | 0x3f000000u);
    if m < 0.70710678 {
        e -= 1.0;
        m = m + m - 1.0;
    } else {
        m -= 1.0;
    }
    let z = m * m;
    var p = 7.0376836292e-2;
    p = p * m - 1.1514610310e-1;
    p = p * m + 1.1676998740e-1;
    p = p * m - 1.2420140846e-1;
    p = p * m + 1.4249322787e-1;
    p = p * m - 1.6668057665e-1;
    p = p * m + 2.0000714765e-1;
    p = p * m - 2.4999993993e-1;
    p = p * m + 3.3333331174e-1;
    var y = m * z * p;
    y += e * -2.12194440e-4;
    y += -0.5 * z;
    return (m + y) + e * 0.693359375;
}

fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

fn sigmoid4(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(vec4<f32>(1.0), e, x < vec4<f32>(0.0)) / (1.0 + e);
}

fn tanh4(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-2.0 * abs(x));
    return sign(x) * ((1.0 - e) / (1.0 + e));
}

// Cosine and sine of the angle turn · 2π / 2³² (after Cephes' sinf and cosf).
fn cos_sin(turn: u32) -> vec2<f32> {
    let quadrant = (turn + 0x20000000u) >> 30u;
    let rest = bitcast<i32>(turn - (quadrant << 30u));
    let x = f32(rest) * 1.46291807926716e-9;
    let z = x * x;
    let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x;
    let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
    switch quadrant & 3u {
        case 0u: { return vec2<f32>(c, s); }
        case 1u: { return vec2<f32>(-s, c); }
        case 2u: { return vec2<f32>(-c, -s); }
        default: { return vec2<f32>(s, -c); }
    }
}
