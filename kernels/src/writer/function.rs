//! One function while it is written: its names, its arguments and its variables.

use std::collections::{HashMap, HashSet};

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    AddressSpace, Binding, BuiltIn, Expression, Function, FunctionResult, GlobalVariable, Handle,
    LocalVariable, Module, TypeInner,
};

use super::lanes::Lanes;
use super::module::{Writer, is_passed};
use super::names::Names;
use super::types::is_runtime_array;
use super::{Dialect, WriteError, workgroup};

/// What a function is to the driver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The kernel itself, in which module variables are declared.
    Kernel { workgroup_size: [u32; 3] },
    /// A function that gets the module variables it uses as arguments.
    Function,
}

/// Where a function leaves a structure or array that it returns: compilers mark a returned one in ways that not
/// all of them understand (oclgrind 21.10 knows no `noalias` scopes).
pub(super) const RESULT: &str = "wgsl_result";

/// A function being written.
pub(super) struct FunctionWriter<'w, 'a> {
    pub writer: &'w mut Writer<'a>,
    pub module: &'a Module,
    pub dialect: Dialect,
    pub function: &'w Function,
    pub info: &'w FunctionInfo,
    pub module_info: &'w ModuleInfo,
    pub role: Role,
    /// Where errors say they are: "function `main`".
    pub place: String,
    pub names: Names,
    pub arguments: Vec<String>,
    pub local_names: HashMap<Handle<LocalVariable>, String>,
    /// The variables that hold expressions which have been evaluated.
    pub baked: HashMap<Handle<Expression>, String>,
    /// Baked expressions whose variable is declared ahead of the loop that evaluates them.
    pub hoisted: HashSet<Handle<Expression>>,
    /// For each loop around the current statement, the label that `continue` goes to, if it needs one.
    pub loops: Vec<Option<String>>,
    text: String,
    level: usize,
}

impl<'w, 'a> FunctionWriter<'w, 'a> {
    pub fn new(
        writer: &'w mut Writer<'a>,
        function: &'w Function,
        info: &'w FunctionInfo,
        module_info: &'w ModuleInfo,
        role: Role,
    ) -> Self {
        FunctionWriter {
            module: writer.module,
            dialect: writer.dialect,
            names: writer.names.clone(),
            place: format!("function `{}`", function.name.as_deref().unwrap_or("function")),
            writer,
            function,
            info,
            module_info,
            role,
            arguments: Vec::new(),
            local_names: HashMap::new(),
            baked: HashMap::new(),
            hoisted: HashSet::new(),
            loops: Vec::new(),
            text: String::new(),
            level: 1,
        }
    }

    /// Appends a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text += &"    ".repeat(self.level);
        self.text += line.as_ref();
        self.text.push('\n');
    }

    /// Appends a line, and indents those that follow.
    pub fn open(&mut self, line: impl AsRef<str>) {
        self.line(line);
        self.level += 1;
    }

    /// Ends what [`FunctionWriter::open`] began.
    pub fn close(&mut self, line: impl AsRef<str>) {
        self.level -= 1;
        self.line(line);
    }

    /// Ends one branch and begins the next: `} else {`.
    pub fn reopen(&mut self, line: impl AsRef<str>) {
        self.close(line);
        self.level += 1;
    }

    /// The body's text.
    pub fn finish(self) -> String {
        self.text
    }

    /// The error for a construct in this function.
    pub fn unsupported(&self, kind: &'static str, construct: impl Into<String>) -> WriteError {
        self.writer.unsupported(kind, construct, &self.place)
    }

    /// The declarations of the function's own arguments.
    pub fn declare_arguments(&mut self) -> Result<Vec<String>, WriteError> {
        let mut list = Vec::new();
        for argument in &self.function.arguments {
            let name = self.names.unique(argument.name.as_deref(), "argument");
            let ty = match self.module.types[argument.ty].inner {
                TypeInner::Pointer { base, space } => self.writer.pointer_type(base, space, &self.place)?,
                _ => self.writer.type_name(argument.ty, &self.place)? + " ",
            };
            list.push(format!("{ty}{name}"));
            self.arguments.push(name);
        }
        Ok(list)
    }

    /// The name of the type that the function returns.
    pub fn result_type(&mut self, result: &FunctionResult) -> Result<String, WriteError> {
        self.writer.type_name(result.ty, &self.place)
    }

    /// The module variables that a function with `info` uses, itself or through those that it calls.
    pub fn used_globals(&self, info: &FunctionInfo) -> Vec<(Handle<GlobalVariable>, &'a GlobalVariable)> {
        let module = self.module;
        let globals = module.global_variables.iter();
        globals.filter(|(handle, global)| is_passed(global) && !info[*handle].is_empty()).collect()
    }

    /// The declaration of the argument in which a function gets a module variable.
    pub fn global_parameter(
        &mut self,
        handle: Handle<GlobalVariable>,
        global: &GlobalVariable,
    ) -> Result<String, WriteError> {
        let name = self.writer.globals[&handle].clone();
        let pointer = self.writer.pointer_type(global.ty, global.space, &self.place)?;
        Ok(format!("{pointer}{name}"))
    }

    /// The argument with which to pass a module variable on.
    pub fn global_argument(&self, handle: Handle<GlobalVariable>, global: &GlobalVariable) -> String {
        let name = &self.writer.globals[&handle];
        let is_variable =
            matches!(global.space, AddressSpace::WorkGroup | AddressSpace::Private | AddressSpace::Uniform);
        match self.role {
            Role::Kernel { .. } if is_variable => format!("&{name}"),
            _ => name.clone(),
        }
    }

    /// Declares, in the kernel, the workgroup's and private variables that it uses.
    pub fn module_variables(&mut self, info: &FunctionInfo) -> Result<(), WriteError> {
        let module = self.module;
        let given = (workgroup::dynamic_bytes(module, self.dialect) > 0)
            .then(|| self.names.unique(Some("workgroup_memory"), "workgroup_memory"));
        if let Some(given) = &given {
            self.line(format!("extern __shared__ uint4 {given}[];"));
        }
        for (handle, global) in self.used_globals(info) {
            let name = self.writer.globals[&handle].clone();
            if is_runtime_array(&self.module.types[global.ty].inner) {
                continue;
            }
            match global.space {
                AddressSpace::WorkGroup => {
                    let ty = self.writer.type_name(global.ty, &self.place)?;
                    let qualifier = self.dialect.pick("__local", "__shared__");
                    match &given {
                        None => self.line(format!("{qualifier} {ty} {name};")),
                        Some(given) => {
                            let offset = workgroup::offset(module, handle);
                            self.line(format!("{ty} &{name} = *({ty} *)((char *){given} + {offset});"));
                        }
                    }
                }
                AddressSpace::Private => {
                    let ty = self.writer.type_name(global.ty, &self.place)?;
                    let value = match global.init {
                        Some(init) => self.writer.constant_value(init, &self.place)?.text,
                        None => self.writer.zero(global.ty, &self.place)?.text,
                    };
                    self.line(format!("{ty} {name} = {value};"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Declares the function's variables with their values.
    pub fn locals(&mut self) -> Result<(), WriteError> {
        for (handle, local) in self.function.local_variables.iter() {
            let ty = self.writer.type_name(local.ty, &self.place)?;
            let name = self.names.unique(local.name.as_deref(), "local_");
            let value = match local.init {
                Some(init) => self.expression(init)?.text,
                None => self.writer.zero(local.ty, &self.place)?.text,
            };
            self.line(format!("{ty} {name} = {value};"));
            self.local_names.insert(handle, name);
        }
        Ok(())
    }

    /// Declares, in the kernel, what its arguments say of the invocation.
    pub fn builtins(&mut self) -> Result<(), WriteError> {
        for argument in &self.function.arguments {
            let name = self.names.unique(argument.name.as_deref(), "argument");
            let ty = self.writer.type_name(argument.ty, &self.place)?;
            let value = match (&argument.binding, &self.module.types[argument.ty].inner) {
                (Some(binding), _) => self.builtin(binding)?,
                (None, TypeInner::Struct { members, .. }) => {
                    let mut values = Vec::new();
                    for member in members {
                        let Some(ref binding) = member.binding else {
                            return Err(self.unsupported("inputs without a builtin", "argument"));
                        };
                        values.push(self.builtin(binding)?);
                    }
                    self.dialect.pick(format!("({ty})"), ty.clone()) + &format!("{{{}}}", values.join(", "))
                }
                _ => return Err(self.unsupported("inputs without a builtin", "argument")),
            };
            self.line(format!("{ty} {name} = {value};"));
            self.arguments.push(name);
        }
        Ok(())
    }

    fn builtin(&mut self, binding: &Binding) -> Result<String, WriteError> {
        let Binding::BuiltIn(builtin) = *binding else {
            return Err(self.unsupported("inputs without a builtin", "location"));
        };
        let Role::Kernel { workgroup_size } = self.role else {
            return Err(self.unsupported("builtins outside of the entry point", format!("{builtin:?}")));
        };
        let [x, y, z] = workgroup_size;
        let dialect = self.dialect;
        let vector = |opencl: &str, cuda: &dyn Fn(usize, &str) -> String| {
            let parts: Vec<(Lanes, String)> = ["x", "y", "z"]
                .iter()
                .enumerate()
                .map(|(i, letter)| {
                    let code = dialect.pick(format!("(uint){opencl}({i})"), cuda(i, letter));
                    (Lanes::U32, code)
                })
                .collect();
            Lanes::U32.with_size(3).compose(dialect, &parts)
        };
        let local_index = match dialect {
            Dialect::OpenClC => format!(
                "(uint)get_local_id(0) + {x}u * ((uint)get_local_id(1) + {y}u * (uint)get_local_id(2))"
            ),
            Dialect::CudaC => format!("threadIdx.x + {x}u * (threadIdx.y + {y}u * threadIdx.z)"),
        };
        Ok(match builtin {
            BuiltIn::GlobalInvocationId => vector("get_global_id", &|i, letter| {
                format!("blockIdx.{letter} * {}u + threadIdx.{letter}", workgroup_size[i])
            }),
            BuiltIn::LocalInvocationId => vector("get_local_id", &|_, letter| format!("threadIdx.{letter}")),
            BuiltIn::WorkGroupId => vector("get_group_id", &|_, letter| format!("blockIdx.{letter}")),
            BuiltIn::NumWorkGroups => vector("get_num_groups", &|_, letter| format!("gridDim.{letter}")),
            BuiltIn::LocalInvocationIndex => local_index,
            BuiltIn::SubgroupSize
            | BuiltIn::SubgroupInvocationId
            | BuiltIn::SubgroupId
            | BuiltIn::NumSubgroups => {
                self.require_subgroups(&format!("{builtin:?}"))?;
                match builtin {
                    BuiltIn::SubgroupSize => "32u".into(),
                    BuiltIn::SubgroupInvocationId => format!("({local_index}) % 32u"),
                    BuiltIn::SubgroupId => format!("({local_index}) / 32u"),
                    _ => format!("{}u", x * y * z / 32),
                }
            }
            _ => return Err(self.unsupported("inputs of this kind", format!("{builtin:?}"))),
        })
    }
}
