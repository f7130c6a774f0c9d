//! A kernel before it is compiled: a template, what fills it in, and how its operands are stored.
//!
//! Templates are WGSL, or CUDA C for kernels that only CUDA's devices can have; for those see `source/cuda.rs`.
//!
//! The text starts with a header that is generated here: the parameter block, the bindings, and for each
//! operand `x` functions that hide its dtype and layout:
//!
//! - `at_x(i, j, …) -> u32`: the element's index in the binding;
//! - `ld_x(e)`: the element at an index, as f32 (integers as i32, `u32` as u32);
//! - `ld4_x(e) -> vec4<f32>`: four elements that follow each other, `e` the index of a column that is a
//!   multiple of 4 (last stride 1, float and block types);
//! - for outputs `st_x(e, v)`, `st2_x(e, v0, v1)`, `st4_x(e, v)`: see [`Access`].
//!
//! Templates are filled in by minijinja; `{% include "reduce.wgsl" %}` takes in a file of `wgsl/common`,
//! or of `cuda/common`.
//! A template sees its literals, and for each operand `x` an object with `dtype`, `rank`, `wide` (aligned
//! for `ld4`/`st4`), `contiguous` (last stride 1).

mod cuda;

use crate::{Kernel, Language, Traits};
use halite_hal::{DType, Result};
use minijinja::value::ValueKind;
use minijinja::{Environment, Value, context};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

/// A template of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// Its name, for messages.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
    /// What the text is written in.
    pub language: Language,
}

impl Template {
    /// A template in WGSL.
    pub const fn wgsl(name: &'static str, text: &'static str) -> Self {
        Template { name, text, language: Language::Wgsl }
    }
}

/// A [`Template`] from a file of `kernels/wgsl`.
#[macro_export]
macro_rules! template {
    ($name:literal) => {
        $crate::Template::wgsl($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/", $name)))
    };
}

/// A [`Template`] in CUDA C from a file of `kernels/cuda`.
macro_rules! cuda_template {
    ($name:literal) => {
        $crate::Template {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/cuda/", $name)),
            language: $crate::Language::CudaC,
        }
    };
}
pub(crate) use cuda_template;

/// A value that a template is filled in with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Literal {
    /// A number.
    Int(u32),
    /// A condition.
    Flag(bool),
    /// Text.
    Text(Cow<'static, str>),
}

impl From<u32> for Literal {
    fn from(x: u32) -> Self {
        Literal::Int(x)
    }
}

impl From<bool> for Literal {
    fn from(x: bool) -> Self {
        Literal::Flag(x)
    }
}

impl From<&'static str> for Literal {
    fn from(x: &'static str) -> Self {
        Literal::Text(x.into())
    }
}

/// How a kernel touches an operand. Memory is written in words of 32 bits, so 8-bit and 16-bit elements
/// that share a word must be written by one invocation, or atomically.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes pairs of neighbours along the last axis with `st2_x` (or fours with `st4_x`), starting at even
    /// columns (fours: multiples of 4), and a last single column with `st_x`. May read it too.
    Pairs,
    /// Writes each element on its own, with `st_x`. May read it too.
    Single,
    /// One invocation, the only one of the launch, writes all of it.
    Serial,
}

/// How elements of an operand are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Store {
    /// Not at all.
    None,
    /// As whole words; a single 16-bit element by reading and writing back its word.
    Word,
    /// Element by element, each by reading and writing back its word.
    Serial,
    /// By atomic exchange of bits in a word that other invocations write too.
    Atomic,
}

/// An operand of a kernel, as far as its text depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OperandSpec {
    pub name: &'static str,
    pub dtype: DType,
    pub rank: usize,
    pub store: Store,
    /// The last axis has stride 1.
    pub contiguous: bool,
    /// Offset and strides suit vectors of four elements.
    pub wide: bool,
    /// Binding number, from 1; operands that are the same view share one.
    pub binding: usize,
}

/// Everything that a kernel's text depends on: the key of compiled programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub(crate) template: Template,
    pub(crate) literals: BTreeMap<&'static str, Literal>,
    pub(crate) operands: Vec<OperandSpec>,
    /// Names and WGSL types of the parameters that the lowering gives.
    pub(crate) params: Vec<(&'static str, &'static str)>,
    pub(crate) workgroup: [u32; 3],
    pub(crate) subgroup: Option<u32>,
    /// See [`Kernel::dynamic_bytes`].
    pub(crate) dynamic_bytes: u32,
}

macro_rules! common {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../", $folder, "/common/", $name)))),*]
    };
}

/// What templates can include.
const COMMON: &[(&str, &str)] = common![
    "wgsl":
    "attention_ends.wgsl",
    "attention_tiles.wgsl",
    "blocks.wgsl",
    "chunks.wgsl",
    "combined.wgsl",
    "fours.wgsl",
    "math.wgsl",
    "place.wgsl",
    "product.wgsl",
    "product_side.wgsl",
    "reduce.wgsl",
    "rounding.wgsl",
    "route.wgsl",
    "rows.wgsl",
    "sequences.wgsl",
    "turn.wgsl",
];

/// What templates in CUDA C can include.
const CUDA_COMMON: &[(&str, &str)] = common![
    "cuda": "elements.cuh", "mma.cuh", "product.cuh", "products.cuh", "sequences.cuh", "swizzle.cuh", "tiles.cuh"
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    // As kernels' languages write them.
    env.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "true" } else { "false" })?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    for (name, text) in COMMON.iter().chain(CUDA_COMMON) {
        env.add_template(name, text).expect("a template of this crate");
    }
    env
});

impl Source {
    /// Name of the kernel, for messages.
    pub fn name(&self) -> &'static str {
        self.template.name.trim_end_matches(".wgsl").trim_end_matches(".cu")
    }

    /// What the text depends on, piece by piece, each with the kernel; see [`halite_hal::Device::programs`].
    pub(crate) fn traits(&self, variant: &str) -> Vec<u64> {
        let number = |what: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            self.template.name.hash(&mut hasher);
            what(&mut hasher);
            hasher.finish()
        };
        let mut traits = vec![number(&|h| (variant, self.workgroup, self.subgroup).hash(h))];
        traits.extend(self.literals.iter().map(|literal| number(&|h| literal.hash(h))));
        for o in &self.operands {
            traits.push(number(&|h| (o.name, o.dtype, &o.store).hash(h)));
            traits.push(number(&|h| (o.name, o.rank, o.contiguous, o.wide, o.binding).hash(h)));
        }
        traits
    }

    fn bindings(&self) -> usize {
        self.operands.iter().map(|o| o.binding).max().unwrap_or(0)
    }

    /// 32-bit words of the parameter block: the lowering's own, then offset and strides of each operand.
    pub(crate) fn param_words(&self) -> usize {
        self.params.len() + self.operands.iter().map(|o| 1 + o.rank).sum::<usize>()
    }

    /// The kernel's text.
    ///
    /// # Errors
    /// When the template is wrong, which is a defect of the kernel set.
    pub fn render(&self, traits: &Traits) -> Result<Kernel> {
        let fail = |e: minijinja::Error| {
            let mut message = format!("template {}: {e}", self.template.name);
            let mut cause = std::error::Error::source(&e);
            while let Some(c) = cause {
                let _ = write!(message, ": {c}");
                cause = c.source();
            }
            halite_hal::Error::backend("kernels", message)
        };
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, literal) in &self.literals {
            let value = match literal {
                Literal::Int(x) => Value::from(*x),
                Literal::Flag(x) => Value::from(*x),
                Literal::Text(x) => Value::from(x.to_string()),
            };
            values.insert(name, value);
        }
        let [x, y, z] = self.workgroup;
        values.insert("workgroup", Value::from(format!("@workgroup_size({x}, {y}, {z})")));
        values.insert("workgroup_size", Value::from(x * y * z));
        for o in &self.operands {
            let value = context! { dtype => o.dtype.name(), rank => o.rank, wide => o.wide, contiguous => o.contiguous };
            values.insert(o.name, value);
        }
        let native = self.template.language == Language::CudaC;
        if native {
            self.cuda_values(&mut values);
        }
        let body =
            ENVIRONMENT.render_named_str(self.template.name, self.template.text, &values).map_err(fail)?;
        let wide_params = traits.wide_params && self.param_words() > 0;
        let body = if wide_params { first_in_main(&body, "narrow_params();") } else { body };
        let header = if native { self.cuda_header() } else { self.header(traits) };
        Ok(Kernel {
            name: self.name().into(),
            text: header + &body,
            language: self.template.language,
            dynamic_bytes: self.dynamic_bytes,
            wide_params,
            bindings: self.bindings(),
            params: self.param_words(),
            workgroup: self.workgroup,
            subgroup: self.subgroup,
        })
    }

    /// Names and WGSL types of the words of the parameter block.
    fn param_names(&self) -> Vec<(String, &'static str)> {
        let mut params: Vec<(String, &str)> =
            self.params.iter().map(|(name, ty)| (name.to_string(), *ty)).collect();
        for o in &self.operands {
            params.push((format!("{}_o", o.name), "u32"));
            params.extend((0..o.rank).map(|axis| (format!("{}_s{axis}", o.name), "u32")));
        }
        params
    }

    fn header(&self, traits: &Traits) -> String {
        let params = self.param_names();
        let mut s = String::new();
        if traits.wide_params {
            wide(&params, &mut s);
        } else if !params.is_empty() {
            structure("Params", params.iter().map(|(name, ty)| (&**name, *ty)), &mut s);
            s.push_str("@group(0) @binding(0) var<uniform> params: Params;\n");
        }
        for b in 1..=self.bindings() {
            let owner = self.owner(b);
            let written = owner.store != Store::None || !traits.shares_memory;
            let access = if written { "read_write" } else { "read" };
            let ty = owner.element_type();
            let _ = writeln!(s, "@group(0) @binding({b}) var<storage, {access}> b{b}_: array<{ty}>;");
        }
        if self.operands.iter().any(|o| o.store != Store::None && o.dtype.block_bytes() == 2) {
            s.push_str(ROUNDING);
        }
        for o in &self.operands {
            o.functions(self.owner(o.binding), &mut s);
        }
        s
    }

    /// The operand that decides how a binding is declared: the one that writes it.
    fn owner(&self, binding: usize) -> &OperandSpec {
        let mut sharing = self.operands.iter().filter(|o| o.binding == binding);
        let first = sharing.clone().next().expect("bindings are numbered without gaps");
        sharing.find(|o| o.store != Store::None).unwrap_or(first)
    }
}

/// The unit, in bytes, that kernels count the place of an operand in. Blocks lie at multiples of it.
pub(crate) fn unit(dtype: DType) -> usize {
    match dtype.is_block() {
        true => 1 << dtype.block_bytes().trailing_zeros().min(2),
        false => dtype.block_bytes(),
    }
}

/// A WGSL struct.
fn structure<'a>(name: &str, members: impl Iterator<Item = (&'a str, &'a str)>, s: &mut String) {
    let _ = writeln!(s, "struct {name} {{");
    for (name, ty) in members {
        let _ = writeln!(s, "    {name}: {ty},");
    }
    s.push_str("}\n");
}

/// Parameters of 64 bits each, and a function that takes them to a private variable of the usual types.
fn wide(params: &[(String, &str)], s: &mut String) {
    if params.is_empty() {
        return;
    }
    structure("WideParams", params.iter().map(|(name, _)| (&**name, "u64")), s);
    structure("Params", params.iter().map(|(name, ty)| (&**name, *ty)), s);
    s.push_str("@group(0) @binding(0) var<uniform> wide_params: WideParams;\n");
    s.push_str("var<private> params: Params;\nfn narrow_params() {\n");
    for (name, ty) in params {
        let _ = writeln!(s, "    params.{name} = bitcast<{ty}>(u32(wide_params.{name}));");
    }
    s.push_str("}\n");
}

/// Puts a statement at the start of the entry point.
fn first_in_main(body: &str, statement: &str) -> String {
    const OPEN: &str = ") {\n";
    let main = body.find("fn main(").expect("every kernel has an entry point");
    let open = main + body[main..].find(OPEN).expect("which has a body") + OPEN.len();
    format!("{}    {statement}\n{}", &body[..open], &body[open..])
}

/// What stores of 16-bit floats need.
const ROUNDING: &str = include_str!("../wgsl/common/rounding.wgsl");

impl OperandSpec {
    /// The type of the elements of its binding.
    fn element_type(&self) -> &'static str {
        match (self.store, self.dtype) {
            (Store::Atomic, _) => "atomic<u32>",
            (_, DType::F32) if self.wide => "vec4<f32>",
            (_, DType::F16 | DType::BF16) if self.wide => "vec2<u32>",
            (_, DType::F32) => "f32",
            (_, DType::I32) => "i32",
            _ => "u32",
        }
    }

    /// The WGSL type of its values.
    fn value_type(&self) -> &'static str {
        match self.dtype {
            DType::I32 | DType::I8 | DType::U8 => "i32",
            DType::U32 => "u32",
            _ => "f32",
        }
    }

    fn functions(&self, owner: &OperandSpec, s: &mut String) {
        let (x, ty) = (self.name, self.value_type());
        // Block types count elements from the view's start: their offset is that of the first block.
        let base = if self.dtype.is_block() { "0u".into() } else { format!("params.{x}_o") };
        let args: Vec<String> = (0..self.rank).map(|i| format!("i{i}: u32")).collect();
        let mut at = base;
        for i in 0..self.rank {
            match self.contiguous && i + 1 == self.rank {
                true => at += &format!(" + i{i}"),
                false => at += &format!(" + i{i} * params.{x}_s{i}"),
            }
        }
        let _ = writeln!(s, "fn at_{x}({}) -> u32 {{ return {at}; }}", args.join(", "));
        if self.dtype.is_block() {
            return self.blocks(owner, s);
        }
        // A word of the binding at a word's index.
        let b = format!("b{}_", owner.binding);
        let word = |i: &str| match (owner.store, owner.dtype) {
            (Store::Atomic, _) => format!("atomicLoad(&{b}[{i}])"),
            (_, DType::F16 | DType::BF16) if owner.wide => format!("{b}[({i}) >> 1u][({i}) & 1u]"),
            _ => format!("{b}[{i}]"),
        };
        let load = match self.dtype {
            DType::F32 if owner.wide => format!("return {b}[e >> 2u][e & 3u];"),
            DType::F32 | DType::I32 | DType::U32 => format!("return {};", word("e")),
            DType::F16 => format!(
                "let w = unpack2x16float({}); return select(w.x, w.y, (e & 1u) == 1u);",
                word("e >> 1u")
            ),
            DType::BF16 => format!(
                "let w = {}; return bitcast<f32>(select(w << 16u, w & 0xffff0000u, (e & 1u) == 1u));",
                word("e >> 1u")
            ),
            DType::U8 => format!("return i32(({} >> (8u * (e & 3u))) & 0xffu);", word("e >> 2u")),
            DType::I8 => format!("return extractBits(bitcast<i32>({}), 8u * (e & 3u), 8u);", word("e >> 2u")),
            other => unreachable!("no kernel reads {other}"),
        };
        let _ = writeln!(s, "fn ld_{x}(e: u32) -> {ty} {{ {load} }}");
        if self.dtype.is_float() {
            let pair = |w: &str| match self.dtype {
                DType::F16 => format!("unpack2x16float({w})"),
                _ => format!("vec2<f32>(bitcast<f32>({w} << 16u), bitcast<f32>({w} & 0xffff0000u))"),
            };
            let load4 = match self.dtype {
                DType::F32 if owner.wide => format!("return {b}[e >> 2u];"),
                DType::F16 | DType::BF16 if owner.wide => {
                    format!("let w = {b}[e >> 2u]; return vec4<f32>({}, {});", pair("w.x"), pair("w.y"))
                }
                _ => format!("return vec4<f32>(ld_{x}(e), ld_{x}(e + 1u), ld_{x}(e + 2u), ld_{x}(e + 3u));"),
            };
            let _ = writeln!(s, "fn ld4_{x}(e: u32) -> vec4<f32> {{ {load4} }}");
        }
        if self.store != Store::None {
            self.stores(&b, s);
        }
    }

    /// The functions that read blocks.
    fn blocks(&self, owner: &OperandSpec, s: &mut String) {
        let unit = unit(self.dtype);
        let values = context! {
            x => self.name,
            b => format!("b{}_", owner.binding),
            dtype => self.dtype.name(),
            elems => self.dtype.block_elems(),
            size => self.dtype.block_bytes() / unit,
            unit,
        };
        let text = ENVIRONMENT.get_template("blocks.wgsl").and_then(|t| t.render(values));
        s.push_str(&text.expect("a template of this crate"));
    }

    fn stores(&self, b: &str, s: &mut String) {
        let (x, ty) = (self.name, self.value_type());
        let bits = match self.dtype {
            DType::F32 | DType::I32 => "bitcast<u32>(v)",
            DType::F16 => "bits_f16(v)",
            DType::BF16 => "bits_bf16(v)",
            DType::U8 | DType::I8 => "(bitcast<u32>(v) & 0xffu)",
            _ => "v",
        };
        // Elements of a word, and a mask of one element.
        let (log, mask) = match self.dtype.block_bytes() {
            1 => (2, "0xffu"),
            2 => (1, "0xffffu"),
            _ => (0, "0xffffffffu"),
        };
        let per = (1 << log) - 1;
        let size = 32 >> log;
        let narrow = log > 0;
        let store = match self.store {
            Store::Atomic if narrow => format!(
                "let i = e >> {log}u; let s = (e & {per}u) * {size}u; let n = {bits};
    let o = (atomicLoad(&{b}[i]) >> s) & {mask}; atomicXor(&{b}[i], (o ^ n) << s);"
            ),
            _ if narrow => {
                let word = match self.wide && log == 1 {
                    true => format!("{b}[i >> 1u][i & 1u]"),
                    false => format!("{b}[i]"),
                };
                format!(
                    "let i = e >> {log}u; let s = (e & {per}u) * {size}u;
    {word} = ({word} & ~({mask} << s)) | ({bits} << s);"
                )
            }
            _ if self.wide && self.dtype == DType::F32 => format!("{b}[e >> 2u][e & 3u] = v;"),
            _ => format!("{b}[e] = v;"),
        };
        let _ = writeln!(s, "fn st_{x}(e: u32, v: {ty}) {{ {store} }}");
        if !self.dtype.is_float() {
            let _ = writeln!(
                s,
                "fn st2_{x}(e: u32, v0: {ty}, v1: {ty}) {{ st_{x}(e, v0); st_{x}(e + 1u, v1); }}"
            );
            return;
        }
        let both = |v0: &str, v1: &str| {
            let f = if self.dtype == DType::F16 { "bits_f16" } else { "bits_bf16" };
            format!("{f}({v0}) | ({f}({v1}) << 16u)")
        };
        let words = narrow && self.store == Store::Word;
        let store2 = match words {
            true if self.wide => format!("{b}[e >> 2u][(e >> 1u) & 1u] = {};", both("v0", "v1")),
            true => format!("{b}[e >> 1u] = {};", both("v0", "v1")),
            false => format!("st_{x}(e, v0); st_{x}(e + 1u, v1);"),
        };
        let _ = writeln!(s, "fn st2_{x}(e: u32, v0: f32, v1: f32) {{ {store2} }}");
        let store4 = match self.dtype {
            DType::F32 if self.wide && self.store == Store::Word => format!("{b}[e >> 2u] = v;"),
            _ if self.wide && words => {
                format!("{b}[e >> 2u] = vec2<u32>({}, {});", both("v.x", "v.y"), both("v.z", "v.w"))
            }
            _ => format!("st2_{x}(e, v.x, v.y); st2_{x}(e + 2u, v.z, v.w);"),
        };
        let _ = writeln!(s, "fn st4_{x}(e: u32, v: vec4<f32>) {{ {store4} }}");
    }
}
