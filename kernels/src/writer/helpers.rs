//! The functions that stand in for what C lacks, each written once and only if it is used.

use std::collections::HashSet;
use std::fmt::Write;

use super::Dialect;
use super::lanes::{Kind, LETTERS, Lanes};

/// The helpers used so far, in an order in which each comes after those that it calls.
pub(super) struct Helpers {
    dialect: Dialect,
    defined: HashSet<String>,
    types: String,
    functions: String,
}

/// The parameters' names in a helper.
pub(super) const PARAMS: [&str; 4] = ["a", "b", "c", "d"];

impl Helpers {
    pub fn new(dialect: Dialect) -> Self {
        Helpers { dialect, defined: HashSet::new(), types: String::new(), functions: String::new() }
    }

    /// The vector types that CUDA lacks, as far as they are used.
    pub fn types(&self) -> &str {
        &self.types
    }

    /// The functions.
    pub fn functions(&self) -> &str {
        &self.functions
    }

    /// The name of a scalar or vector type, which is declared if need be.
    pub fn use_type(&mut self, lanes: Lanes) -> String {
        let name = lanes.c_name(self.dialect);
        if name.starts_with("wgsl_") && self.defined.insert(name.clone()) {
            let (kind, members) = (lanes.kind.c_name(), LETTERS[..lanes.size].join(", "));
            let bytes = if lanes.size == 2 { 2 } else { 4 } * if lanes.kind == Kind::Bool { 1 } else { 4 };
            let _ = writeln!(self.types, "struct __align__({bytes}) {name} {{ {kind} {members}; }};");
        }
        name
    }

    /// Defines the function `name` unless it is there. `body` is its statements, on lines of their own.
    pub fn define(&mut self, name: &str, params: &[Lanes], result: Lanes, body: &str) {
        let list: Vec<String> =
            params.iter().zip(PARAMS).map(|(lanes, p)| format!("{} {p}", self.use_type(*lanes))).collect();
        let result = self.use_type(result);
        self.define_raw(name, &list.join(", "), &result, body);
    }

    /// As [`Helpers::define`], with parameters and result spelled out; overloads differ in their parameters.
    pub fn define_raw(&mut self, name: &str, params: &str, result: &str, body: &str) {
        if !self.defined.insert(format!("{name}({params})")) {
            return;
        }
        let qualifiers = self.dialect.pick("static", "static __device__ __forceinline__");
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        let _ = write!(self.functions, "{qualifiers} {result} {name}({params}) {{\n{body}}}\n\n");
    }

    /// Defines a function that works lane by lane, and returns its name: `scalar` makes the code for one
    /// lane from the lanes of the arguments. A scalar argument goes to all lanes.
    pub fn lanewise(
        &mut self,
        name: &str,
        params: &[Lanes],
        result: Lanes,
        scalar: &dyn Fn(&[&str]) -> String,
    ) -> String {
        let ids: Vec<String> = params.iter().map(|p| p.id()).collect();
        let same = ids.windows(2).all(|pair| pair[0] == pair[1]);
        let suffix = if same { ids.first().cloned().unwrap_or_default() } else { ids.join("_") };
        let name = format!("wgsl_{name}_{suffix}");
        let lanes: Vec<(Lanes, String)> = (0..result.size)
            .map(|index| {
                let args: Vec<String> =
                    params.iter().zip(PARAMS).map(|(p, a)| p.lane(self.dialect, a, index)).collect();
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                (result.with_size(1), scalar(&args))
            })
            .collect();
        let value =
            if result.is_scalar() { lanes[0].1.clone() } else { result.compose(self.dialect, &lanes) };
        self.define(&name, params, result, &format!("return {value};"));
        name
    }

    /// Defines CUDA's `operator` for vectors, lane by lane.
    pub fn operator(&mut self, operator: &str, params: &[Lanes], scalar: &dyn Fn(&[&str]) -> String) {
        let result = params[0];
        let lanes: Vec<(Lanes, String)> = (0..result.size)
            .map(|index| {
                let args: Vec<String> =
                    params.iter().zip(PARAMS).map(|(p, a)| p.lane(self.dialect, a, index)).collect();
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                (result.with_size(1), scalar(&args))
            })
            .collect();
        let body = format!("return {};", result.compose(self.dialect, &lanes));
        self.define(&format!("operator{operator}"), params, result, &body);
    }
}
