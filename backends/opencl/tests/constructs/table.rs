//! The constructs: sections of the text files beside this one, each made a program.

use std::fmt::Write;

/// How a result is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compare {
    Bits,
    /// Not at all: padding.
    Nothing,
    /// As floats, which may differ by this much relative to the larger of 1 and the value.
    Within(f32),
}

/// A program, its input, and what its results are.
pub struct Program {
    pub title: String,
    pub wgsl: String,
    /// Words of binding 1.
    pub input: Vec<u32>,
    /// What binding 2 holds before the program runs.
    pub output: Vec<u32>,
    pub workgroups: u32,
    /// What the words of the result are, over and over, and how to compare them: for sections of expressions
    /// those that a workgroup writes.
    pub words: Vec<(String, Compare)>,
}

/// Words that the parameter block of whole programs has.
pub const PARAMS: [u32; 16] = [
    7,
    0x3fc0_0000,
    0xffff_fffb,
    0,
    0x3f00_0000,
    0xbe80_0000,
    0x4000_0000,
    0,
    11,
    22,
    33,
    44,
    55,
    66,
    77,
    88,
];

/// The bindings of a program that doesn't declare them.
const BINDINGS: &str = "@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
";

/// All programs.
pub fn programs() -> Vec<Program> {
    let expressions = [include_str!("operators.txt"), include_str!("functions.txt")];
    let whole = [include_str!("memory.txt"), include_str!("statements.txt")];
    let expressions =
        expressions.into_iter().flat_map(sections).map(|(title, text)| of_expressions(title, text));
    expressions
        .chain(whole.into_iter().flat_map(sections).map(|(title, text)| of_text(title, text)))
        .collect()
}

/// A program of subgroup operations, which only CUDA C has.
pub fn subgroups() -> Program {
    of_text("subgroups", include_str!("subgroups.wgsl"))
}

/// Titles and texts of a file's sections.
fn sections(file: &str) -> impl Iterator<Item = (&str, &str)> {
    file.split("\n== ")
        .skip(1)
        .map(|section| section.split_once('\n').expect("a title has a line of its own"))
}

fn of_text(title: &str, text: &str) -> Program {
    let padding = title.split_once(", padded at ").map(|(_, padding)| {
        let numbers = padding.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<usize>>();
        let (every, at) = numbers.split_last().expect("the words and how many there are");
        (0..*every)
            .map(|i| if at.contains(&i) { Compare::Nothing } else { Compare::Bits })
            .collect::<Vec<_>>()
    });
    let words = padding.unwrap_or_else(|| vec![Compare::Bits]);
    let bindings = if text.contains("@binding(1)") { "" } else { BINDINGS };
    let noise =
        |seed: u32| (1..=256u32).map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 13) ^ seed).collect();
    Program {
        title: title.into(),
        wgsl: format!("{bindings}{text}"),
        input: noise(0),
        output: noise(0x5bd1_e995),
        workgroups: 2,
        words: words.into_iter().map(|compare| ("word".into(), compare)).collect(),
    }
}

fn of_expressions(title: &str, text: &str) -> Program {
    let within = title.split_once(" within ").map(|(_, bound)| bound.parse().expect("a number"));
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (kind, values) = lines.next().and_then(|line| line.split_once(": ")).expect("inputs come first");
    let input: Vec<u32> = values.split(' ').map(|value| word(kind, value)).collect();
    let count = input.len();
    let mut body = String::new();
    for (name, at) in
        ["i", "i / n", "i * 7u + i / n * 3u + 1u", "i * 5u + i / (2u * n) + 2u"].iter().enumerate()
    {
        let value = match kind {
            "bool" => format!("x[({at}) % n] != 0u"),
            _ => format!("bitcast<{kind}>(x[({at}) % n])"),
        };
        let _ = writeln!(body, "    let {} = {value};", ["a", "b", "c", "d"][name]);
    }
    let mut words = Vec::new();
    for line in lines {
        let (ty, expression) = line.split_once(": ").expect("a type stands before each expression");
        let _ = writeln!(body, "    {{ let r: {ty} = {expression};");
        let (lanes, scalar) = match ty.strip_prefix("vec") {
            None => (&["r"][..], ty),
            Some(rest) => {
                let size = rest[..1].parse().expect("a vector's size");
                (&["r.x", "r.y", "r.z", "r.w"][..size], &rest[2..rest.len() - 1])
            }
        };
        for lane in lanes {
            let bits =
                if scalar == "bool" { format!("u32({lane})") } else { format!("bitcast<u32>({lane})") };
            let _ = writeln!(body, "    y[o + {}u] = {bits};", words.len());
            let compare = match (scalar, within) {
                ("f32", bound) => Compare::Within(bound.unwrap_or(0.0)),
                _ => Compare::Bits,
            };
            words.push((expression.to_string(), compare));
        }
        body += "    }\n";
    }
    let (per, workgroups) = (words.len(), count * count);
    let wgsl = format!(
        "{BINDINGS}@compute @workgroup_size(1) fn main(@builtin(workgroup_id) group: vec3<u32>) {{
    let n = {count}u;
    let i = group.x;
    let o = i * {per}u;\n{body}}}\n"
    );
    let output = vec![0; per * workgroups];
    Program { title: title.into(), wgsl, input, output, workgroups: workgroups as u32, words }
}

fn word(kind: &str, value: &str) -> u32 {
    match kind {
        "f32" => value.parse::<f32>().map(f32::to_bits).ok(),
        "i32" => value.parse::<i32>().map(|n| n as u32).ok(),
        _ => value.parse().ok(),
    }
    .unwrap_or_else(|| panic!("{value} is no {kind}"))
}

impl Program {
    /// The kernel.
    pub fn kernel(&self) -> halite_kernels::Kernel {
        let size = self.wgsl.split("@workgroup_size(").nth(1).and_then(|rest| rest.split(')').next());
        let mut workgroup = [1; 3];
        for (axis, n) in size.expect("a kernel has a workgroup size").split(',').enumerate() {
            workgroup[axis] = n.trim().parse().expect("a workgroup size is a number");
        }
        halite_kernels::Kernel {
            name: self.title.clone(),
            text: self.wgsl.clone(),
            language: halite_kernels::Language::Wgsl,
            dynamic_bytes: 0,
            bindings: 2,
            params: self.params().len(),
            wide_params: false,
            workgroup,
            subgroup: None,
        }
    }

    /// The words of its parameter block.
    pub fn params(&self) -> &'static [u32] {
        if self.wgsl.contains("var<uniform>") { &PARAMS } else { &[] }
    }

    /// What two results differ in, a line each, the first few.
    pub fn differences(&self, one: &[u32], other: &[u32]) -> Vec<String> {
        assert_eq!(one.len(), other.len());
        let mut found = Vec::new();
        for (at, (&p, &q)) in one.iter().zip(other).enumerate() {
            let (what, compare) = &self.words[at % self.words.len()];
            let (f, g) = (f32::from_bits(p), f32::from_bits(q));
            let same = match *compare {
                Compare::Nothing => true,
                Compare::Bits => p == q,
                // A zero's sign isn't WGSL's.
                Compare::Within(bound) => p == q || (f - g).abs() <= bound * g.abs().clamp(1.0, f32::MAX),
            };
            if !same {
                found.push(match compare {
                    Compare::Within(_) => format!("{what} [{at}]: {f:e} and {g:e}{}", self.inputs(at)),
                    _ => format!("{what} [{at}]: {p:#x} and {q:#x}{}", self.inputs(at)),
                });
            }
        }
        found
    }

    /// The values of `a` to `d` for the word `at`.
    fn inputs(&self, at: usize) -> String {
        if self.words.iter().all(|(what, _)| what == "word") {
            return String::new();
        }
        let (i, n) = (at / self.words.len(), self.input.len());
        let at = [i, i / n, i * 7 + i / n * 3 + 1, i * 5 + i / (2 * n) + 2];
        let words: Vec<String> = at.iter().map(|at| format!("{:#x}", self.input[at % n])).collect();
        format!(" for {}", words.join(", "))
    }
}
