//! The whole source: what the entry point needs, its signature, and the functions that it calls.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    AddressSpace, Block, Constant, EntryPoint, Function, GlobalVariable, Handle, Module, Override,
    ShaderStage, Statement, Type, TypeInner,
};

use super::function::{FunctionWriter, RESULT, Role};
use super::helpers::Helpers;
use super::names::Names;
use super::types::{Types, is_aggregate, is_runtime_array};
use super::{Dialect, WriteError, kernel_name};

/// Writes the kernel that `entry_point` of `module` becomes, with all that it needs.
///
/// The module must be valid, as `info` says, and its overrides must have been resolved. The entry point must
/// be a compute shader's.
pub fn write(
    module: &Module,
    info: &ModuleInfo,
    entry_point: &str,
    dialect: Dialect,
) -> Result<String, WriteError> {
    let compute = || module.entry_points.iter().filter(|e| e.stage == ShaderStage::Compute);
    let found =
        module.entry_points.iter().position(|e| e.stage == ShaderStage::Compute && e.name == entry_point);
    let Some(index) = found else {
        let present: Vec<String> = compute().map(|e| format!("`{}`", e.name)).collect();
        let present = if present.is_empty() { "none".into() } else { present.join(", ") };
        return Err(WriteError::EntryPoint { name: entry_point.into(), present });
    };
    let mut writer = Writer::new(module, dialect, kernel_name(entry_point));
    writer.share_types();
    writer.name_globals();
    let entry = &module.entry_points[index];
    let text = writer.functions(entry, info, info.get_entry_point(index))?;
    Ok(writer.assemble(&text))
}

/// What is written, and what has been named and declared on the way.
pub(super) struct Writer<'a> {
    pub module: &'a Module,
    pub dialect: Dialect,
    pub names: Names,
    pub types: Types,
    pub helpers: Helpers,
    pub globals: HashMap<Handle<GlobalVariable>, String>,
    pub functions: HashMap<Handle<Function>, String>,
    /// The names of constants that are arrays or structures, declared or not.
    pub constants: HashMap<Handle<Constant>, String>,
    /// Those that are declared.
    pub declared_constants: HashSet<Handle<Constant>>,
    pub constants_text: String,
    kernel: String,
}

impl<'a> Writer<'a> {
    fn new(module: &'a Module, dialect: Dialect, kernel: String) -> Self {
        let mut names = Names::default();
        names.unique(Some(&kernel), "kernel_main");
        Writer {
            module,
            dialect,
            names,
            types: Types::default(),
            helpers: Helpers::new(dialect),
            globals: HashMap::new(),
            functions: HashMap::new(),
            constants: HashMap::new(),
            declared_constants: HashSet::new(),
            constants_text: String::new(),
            kernel,
        }
    }

    /// The error for a construct that the writer doesn't write. `kind` is its family in the plural.
    pub fn unsupported(&self, kind: &'static str, construct: impl Into<String>, place: &str) -> WriteError {
        WriteError::Unsupported {
            kind,
            construct: construct.into(),
            place: place.into(),
            dialect: self.dialect,
        }
    }

    /// The error for an override that has no value.
    pub fn unresolved(&self, handle: Handle<Override>) -> WriteError {
        let name = self.module.overrides[handle].name.clone();
        WriteError::Override { name: name.unwrap_or_else(|| format!("{handle:?}")) }
    }

    /// Finds the types whose layout the host shares.
    fn share_types(&mut self) {
        fn share(module: &Module, ty: Handle<Type>, types: &mut Types) {
            if !types.shared.insert(ty) {
                return;
            }
            match module.types[ty].inner {
                TypeInner::Array { base, .. } => share(module, base, types),
                TypeInner::Struct { ref members, .. } => {
                    members.iter().for_each(|member| share(module, member.ty, types));
                }
                _ => {}
            }
        }
        for (_, global) in self.module.global_variables.iter() {
            if matches!(global.space, AddressSpace::Storage { .. } | AddressSpace::Uniform) {
                share(self.module, global.ty, &mut self.types);
            }
        }
    }

    /// Names all that is seen from more than one function, so that no function gives such a name to a
    /// variable of its own: C would find that one instead.
    fn name_globals(&mut self) {
        let module = self.module;
        for (handle, global) in module.global_variables.iter() {
            let name = self.names.unique(global.name.as_deref(), "global_");
            self.globals.insert(handle, name);
        }
        for (handle, ty) in module.types.iter() {
            if let TypeInner::Struct { .. } = ty.inner {
                let name = self.names.unique(ty.name.as_deref(), "Struct");
                self.types.structs.insert(handle, name);
            }
        }
        for (handle, constant) in module.constants.iter() {
            if is_aggregate(&module.types[constant.ty].inner) {
                let name = self.names.unique(constant.name.as_deref(), "constant_");
                self.constants.insert(handle, name);
            }
        }
        for (handle, function) in module.functions.iter() {
            let name = self.names.unique(function.name.as_deref(), "function");
            self.functions.insert(handle, name);
        }
    }

    /// The source of all functions that `entry` reaches, the kernel last.
    fn functions(
        &mut self,
        entry: &EntryPoint,
        info: &ModuleInfo,
        entry_info: &FunctionInfo,
    ) -> Result<String, WriteError> {
        let module = self.module;
        let mut reached = BTreeSet::new();
        let mut pending = Vec::new();
        callees(&entry.function.body, &mut pending);
        while let Some(function) = pending.pop() {
            if reached.insert(function) {
                callees(&module.functions[function].body, &mut pending);
            }
        }
        let mut text = String::new();
        // naga orders functions so that each comes after those that it calls.
        for handle in reached {
            let function = &module.functions[handle];
            text += &self.function(handle, function, &info[handle], info)?;
        }
        text += &self.entry(entry, entry_info, info)?;
        Ok(text)
    }

    fn function(
        &mut self,
        handle: Handle<Function>,
        function: &Function,
        info: &FunctionInfo,
        module_info: &ModuleInfo,
    ) -> Result<String, WriteError> {
        let mut body = FunctionWriter::new(self, function, info, module_info, Role::Function);
        let mut params = body.declare_arguments()?;
        let used: Vec<_> = body.used_globals(info);
        for (global, variable) in used {
            params.push(body.global_parameter(global, variable)?);
        }
        let mut result = match function.result {
            Some(ref result) => body.result_type(result)?,
            None => "void".into(),
        };
        if function.result.as_ref().is_some_and(|r| is_aggregate(&body.module.types[r.ty].inner)) {
            params.push(format!("{result} *{RESULT}"));
            result = "void".into();
        }
        body.locals()?;
        body.block(&function.body)?;
        let text = body.finish();
        let name = &self.functions[&handle];
        // A pointer to workgroup memory that is the same in every call becomes a constant of a function that
        // isn't inlined, and PoCL (3.1) then takes the memory for the program's: all workgroups share it.
        let qualifiers = self.dialect.pick("static __attribute__((always_inline))", "static __device__");
        Ok(format!("{qualifiers} {result} {name}({}) {{\n{text}}}\n\n", params.join(", ")))
    }

    fn entry(
        &mut self,
        entry: &EntryPoint,
        info: &FunctionInfo,
        module_info: &ModuleInfo,
    ) -> Result<String, WriteError> {
        let place = format!("function `{}`", entry.name);
        if let Some(overrides) = entry.workgroup_size_overrides
            && overrides.iter().any(Option::is_some)
        {
            return Err(WriteError::Override { name: format!("workgroup_size of {}", entry.name) });
        }
        let parameters = self.kernel_parameters(&place)?;
        let role = Role::Kernel { workgroup_size: entry.workgroup_size };
        let mut body = FunctionWriter::new(self, &entry.function, info, module_info, role);
        for line in &parameters.first_lines {
            body.line(line);
        }
        body.module_variables(info)?;
        body.builtins()?;
        body.locals()?;
        body.block(&entry.function.body)?;
        let text = body.finish();
        let [x, y, z] = entry.workgroup_size;
        let head = match self.dialect {
            Dialect::OpenClC => {
                format!("__kernel __attribute__((reqd_work_group_size({x}, {y}, {z})))\nvoid")
            }
            Dialect::CudaC => format!("extern \"C\" __global__ void __launch_bounds__({})", x * y * z),
        };
        let params: Vec<String> = parameters.list.iter().map(|p| format!("\n    {p}")).collect();
        Ok(format!("{head} {}({}\n) {{\n{text}}}\n", self.kernel, params.join(",")))
    }

    fn kernel_parameters(&mut self, place: &str) -> Result<Parameters, WriteError> {
        let module = self.module;
        let mut storage: Vec<(u32, Handle<GlobalVariable>, &GlobalVariable)> = Vec::new();
        let mut list = Vec::new();
        for (handle, global) in module.global_variables.iter() {
            let name = self.globals[&handle].clone();
            let error = |why: &str| Err(WriteError::Binding { name: name.clone(), why: why.into() });
            let binding = match (global.space, global.binding) {
                (AddressSpace::Function | AddressSpace::Private | AddressSpace::WorkGroup, _) => continue,
                (AddressSpace::Uniform | AddressSpace::Storage { .. }, Some(binding)) => binding,
                (AddressSpace::Handle, _) => {
                    let place = format!("global variable `{name}`");
                    return Err(self.unsupported_type(&module.types[global.ty].inner, &place));
                }
                (AddressSpace::Uniform | AddressSpace::Storage { .. }, None) => {
                    return error("it has no binding");
                }
                _ => return error("only uniform and storage bindings are passed to a kernel"),
            };
            if binding.group != 0 {
                return error(&format!(
                    "it is in group {}; only group 0 is passed to a kernel",
                    binding.group
                ));
            }
            if global.space != AddressSpace::Uniform {
                storage.push((binding.binding, handle, global));
            } else if list.is_empty() {
                list.push(format!("const {} {name}", self.type_name(global.ty, place)?));
            } else {
                return error("a kernel takes one uniform binding, and this is the second");
            }
        }
        storage.sort_by_key(|(binding, ..)| *binding);
        let mut first_lines = Vec::new();
        for (_, handle, global) in storage {
            let name = self.globals[&handle].clone();
            let pointer = self.pointer_type(global.ty, global.space, place)?;
            match self.dialect {
                Dialect::CudaC => list.push(format!("{pointer}{name}")),
                Dialect::OpenClC => {
                    let base = self.names.unique(Some(&format!("{name}_buffer")), "buffer");
                    let offset = self.names.unique(Some(&format!("{name}_offset")), "offset");
                    list.push(format!("{pointer}{base}"));
                    list.push(format!("const ulong {offset}"));
                    let bytes = format!("{}char *", self.qualifier(global.space));
                    first_lines.push(format!("{pointer}{name} = ({pointer})(({bytes}){base} + {offset});"));
                }
            }
        }
        Ok(Parameters { list, first_lines })
    }

    /// Puts the parts in order.
    fn assemble(&self, functions: &str) -> String {
        let mut text = String::from(self.dialect.pick(
            "#pragma OPENCL FP_CONTRACT OFF\n\n",
            "// Compile with --fmad=false.\ntypedef unsigned int uint;\n\n",
        ));
        for part in [self.helpers.types(), &self.types.text, &self.constants_text] {
            if !part.is_empty() {
                let _ = writeln!(text, "{}\n", part.trim_end());
            }
        }
        text + self.helpers.functions() + functions
    }
}

/// A kernel's parameters, and what it does first with them.
struct Parameters {
    list: Vec<String>,
    first_lines: Vec<String>,
}

/// Whether a global variable is passed from function to function: as a pointer.
pub(super) fn is_passed(global: &GlobalVariable) -> bool {
    matches!(
        global.space,
        AddressSpace::Storage { .. }
            | AddressSpace::Uniform
            | AddressSpace::WorkGroup
            | AddressSpace::Private
    )
}

/// Whether the name of a global variable is a pointer to its value in the kernel itself.
pub(super) fn is_pointer_in_kernel(module: &Module, global: &GlobalVariable) -> bool {
    matches!(global.space, AddressSpace::Storage { .. }) && !is_runtime_array(&module.types[global.ty].inner)
}

/// The functions that the statements call.
fn callees(block: &Block, found: &mut Vec<Handle<Function>>) {
    for statement in block.iter() {
        match *statement {
            Statement::Call { function, .. } => found.push(function),
            Statement::Block(ref block) => callees(block, found),
            Statement::If { ref accept, ref reject, .. } => {
                callees(accept, found);
                callees(reject, found);
            }
            Statement::Switch { ref cases, .. } => cases.iter().for_each(|case| callees(&case.body, found)),
            Statement::Loop { ref body, ref continuing, .. } => {
                callees(body, found);
                callees(continuing, found);
            }
            _ => {}
        }
    }
}
