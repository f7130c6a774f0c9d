//! What the writer doesn't write is an error that names the construct, and never other code.

use halite_kernels::writer::{self, Dialect};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// Parses and validates WGSL with all that naga knows allowed.
fn parse(wgsl: &str) -> (naga::Module, ModuleInfo) {
    let mut options = naga::front::wgsl::Options::new();
    options.capabilities = Capabilities::all();
    let parsed = naga::front::wgsl::Frontend::new_with_options(options).parse(wgsl);
    let module = parsed.unwrap_or_else(|e| panic!("{}", e.emit_to_string(wgsl)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(wgsl)));
    (module, info)
}

/// The error for a kernel with these declarations and this body.
fn error(declarations: &str, body: &str, dialect: Dialect) -> String {
    let wgsl = format!(
        "{declarations}
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(8) fn main(@builtin(local_invocation_index) i: u32) {{ {body} }}"
    );
    let (module, info) = parse(&wgsl);
    match writer::write(&module, &info, "main", dialect) {
        Ok(source) => panic!("{declarations} {body} was written:\n{source}"),
        Err(e) => e.to_string(),
    }
}

/// Declarations, a body, and what the error says.
const BOTH: &[(&str, &str, &str)] = &[
    ("", "let a = f64(i); y[i] = u32(a);", "f64"),
    ("", "var a: f64; y[i] = u32(a);", "f64"),
    ("enable f16;", "let a = f16(i); y[i] = u32(a);", "f16"),
    ("enable f16;", "var a: vec2<f16>; y[i] = u32(a.x);", "f16"),
    ("enable f16;", "y[i] = u32(2.5h * f16(i));", "f16"),
    ("", "let a = i64(i); y[i] = u32(a);", "i64"),
    ("", "var a: u64; y[i] = u32(a);", "u64"),
    ("", "var a: mat2x2<f32>; y[i] = u32(a[0].x);", "matrix"),
    ("", "y[i] = u32((mat2x2(1.0, 2.0, 3.0, f32(i)) * vec2(1.0, 2.0)).x);", "matrix"),
    ("", "y[i] = u32(determinant(mat2x2(1.0, 2.0, 3.0, f32(i))));", "matri"),
    ("", "y[i] = u32(transpose(mat2x2(1.0, 2.0, 3.0, f32(i)))[0].x);", "matri"),
    ("@group(0) @binding(2) var<storage> m: mat4x4<f32>;", "y[i] = u32(m[i & 3u].x);", "matri"),
    (
        "@group(0) @binding(2) var t: texture_2d<f32>;",
        "y[i] = u32(textureLoad(t, vec2(0, 0), 0).x);",
        "textures",
    ),
    ("@group(0) @binding(2) var t: texture_2d<f32>;", "y[i] = textureDimensions(t).x;", "textures"),
    (
        "@group(0) @binding(2) var t: texture_storage_2d<rgba8unorm, write>;",
        "textureStore(t, vec2(0, 0), vec4(1.0));",
        "textures",
    ),
    (
        "@group(0) @binding(2) var t: texture_2d<f32>; @group(0) @binding(3) var s: sampler;",
        "y[i] = u32(textureSampleLevel(t, s, vec2(0.5), 0.0).x);",
        "textures",
    ),
    (
        "enable wgpu_ray_query; @group(0) @binding(2) var a: acceleration_structure;",
        "var q: ray_query;
        rayQueryInitialize(&q, a, RayDesc(0u, 0xffu, 0.1, 9.0, vec3(0.0), vec3(0.0, 0.0, 1.0)));
        y[i] = u32(rayQueryProceed(&q));",
        "ray queries",
    ),
    ("", "y[i] = arrayLength(&y);", "arrayLength"),
    ("", "let m = modf(f32(i)); y[i] = u32(m.fract);", "modf"),
    ("", "let m = frexp(f32(i)); y[i] = u32(m.exp);", "frexp"),
    ("override n: u32;", "y[i] = n;", "override `n`"),
    ("override n: u32; var<workgroup> a: array<u32, n>;", "y[i] = a[i];", "override `n`"),
    (
        "struct S { n: u32, list: array<u32> } @group(0) @binding(2) var<storage> s: S;",
        "y[i] = s.list[i];",
        "`array<u32>` can't be written in C: it has no fixed size",
    ),
    (
        "struct S { a: vec3<f32>, b: f32 } @group(0) @binding(2) var<storage> s: S;",
        "y[i] = u32(s.b);",
        "`S.b` can't be written in C: its offset is 12",
    ),
    (
        "@group(0) @binding(0) var<uniform> a: vec4<u32>; @group(0) @binding(2) var<uniform> b: vec4<u32>;",
        "y[i] = a.x + b.x;",
        "`b`: a kernel takes one uniform binding",
    ),
    ("@group(1) @binding(0) var<storage> a: array<u32>;", "y[i] = a[i];", "`a`: it is in group 1"),
    ("var<immediate> a: u32;", "y[i] = a;", "`a`: only uniform and storage bindings"),
    ("var<workgroup> a: atomic<u64>;", "atomicAdd(&a, u64(i));", "u64"),
    (
        "@group(0) @binding(2) var<storage, read_write> a: atomic<f32>;",
        "atomicAdd(&a, f32(i));",
        "float atomics",
    ),
    ("", "y[i] = u32(quadBroadcast(i, 0u));", "quad"),
];

#[test]
fn errors_name_the_construct() {
    for dialect in [Dialect::OpenClC, Dialect::CudaC] {
        for (declarations, body, said) in BOTH {
            let message = error(declarations, body, dialect);
            assert!(message.contains(said), "{dialect}, {declarations} {body}:\n{message}");
        }
    }
}

#[test]
fn opencl_has_no_subgroups() {
    for body in [
        "y[i] = subgroupAdd(i);",
        "y[i] = subgroupInclusiveMul(i);",
        "y[i] = subgroupBroadcastFirst(i);",
        "y[i] = subgroupShuffleXor(i, 1u);",
        "y[i] = subgroupBallot(i > 2u).x;",
        "y[i] = u32(subgroupAll(i > 2u));",
        "subgroupBarrier();",
    ] {
        let message = error("", body, Dialect::OpenClC);
        assert!(message.contains("subgroup operations are not supported in OpenCL C"), "{body}:\n{message}");
        // A workgroup of eight isn't whole warps.
        let message = error("", body, Dialect::CudaC);
        assert!(message.contains("whole warps"), "{body}:\n{message}");
    }
}

#[test]
fn the_entry_point_has_to_be_there() {
    let (module, info) = parse("@compute @workgroup_size(1) fn other() {}");
    let message = writer::write(&module, &info, "main", Dialect::OpenClC).unwrap_err().to_string();
    assert_eq!(message, "there is no compute entry point `main`; there is `other`");
}
