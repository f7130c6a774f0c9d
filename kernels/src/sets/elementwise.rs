//! Kernels that work on one element at a time: an invocation takes four neighbours along the last axis.

use crate::{Access, KernelSet, LaunchBuilder, Literal, Lowering, Template, Variant, template};
use halite_hal::{
    AdamW, BinaryFn, DType, DeviceInfo, Distribution, Op, OpDesc, OpKind, Result, Scalar, TensorRef, UnaryFn,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Elementwise;

/// Elements of an invocation along the last axis.
const CHUNK: usize = 4;

impl KernelSet for Elementwise {
    fn variants(&self, desc: &OpDesc, _: &DeviceInfo) -> Vec<Variant> {
        match desc.kind {
            OpKind::Fill { .. }
            | OpKind::Iota
            | OpKind::Copy
            | OpKind::Unary(_)
            | OpKind::Binary(_)
            | OpKind::SwiGlu
            | OpKind::SwiGluBackward
            | OpKind::AdamW(_)
            | OpKind::ClipFactor { .. }
            | OpKind::Philox(_) => vec![Variant::ONLY],
            _ => Vec::new(),
        }
    }

    fn lower(&self, op: &Op, _: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        let (i, o) = (&op.inputs, &op.outputs);
        match &op.kind {
            OpKind::Copy => copy(to, &i[0], &o[0]),
            OpKind::Fill { value } => fill(to, *value, &o[0]),
            OpKind::Iota => {
                Each::new(template!("iota.wgsl"), to).out("y", &o[0]).order(Order::Last).launch(|l| l)
            }
            OpKind::Unary(f) => {
                let each = Each::new(template!("unary.wgsl"), to).put("f", name(f)).input("x", &i[0]);
                each.out("y", &o[0]).launch(|l| match f {
                    UnaryFn::Affine { scale, shift } => {
                        l.param_f32("scale", scale.0).param_f32("shift", shift.0)
                    }
                    _ => l,
                })
            }
            OpKind::Binary(f) => {
                let each = Each::new(template!("binary.wgsl"), to).put("f", binary_name(*f));
                each.input("a", &i[0]).input("b", &i[1]).out("y", &o[0]).launch(|l| l)
            }
            OpKind::SwiGlu => {
                let each = Each::new(template!("swiglu.wgsl"), to).input("gate", &i[0]).input("up", &i[1]);
                each.out("y", &o[0]).launch(|l| l)
            }
            OpKind::SwiGluBackward => {
                let each = Each::new(template!("swiglu_backward.wgsl"), to).input("dy", &i[0]);
                let each = each.input("gate", &i[1]).input("up", &i[2]);
                each.out("dgate", &o[0]).out("dup", &o[1]).launch(|l| l)
            }
            OpKind::AdamW(a) => {
                let each = Each::new(template!("adamw.wgsl"), to).input("grad", &i[0]);
                each.out("param", &o[0])
                    .out("m", &o[1])
                    .out("v", &o[2])
                    .launch(|l| step(l, op, a).param_f32("decay", a.weight_decay.0))
            }
            OpKind::ClipFactor { max_norm } => to
                .launch(template!("clip_factor.wgsl"))
                .input("sum", &i[0])
                .output("norm", &o[0])
                .output("factor", &o[1])
                .param_f32("max_norm", max_norm.0)
                .linear(1),
            OpKind::Philox(d) => {
                let f = match d {
                    Distribution::Bits => "bits",
                    Distribution::Uniform => "uniform",
                    Distribution::Normal => "normal",
                    other => return Err(to.unsupported(&op.desc(), format!("no kernel draws {other:?}"))),
                };
                let each = Each::new(template!("philox.wgsl"), to)
                    .put("f", f)
                    .out("y", &o[0])
                    .order(Order::RowMajor);
                each.launch(|l| l.input("state", &i[0]))
            }
            _ => Err(to.unsupported(&op.desc(), "no kernel")),
        }
    }
}

/// What an AdamW step takes beside its tensors and the weight decay.
pub(super) fn step<'l, 'a>(launch: LaunchBuilder<'l, 'a>, op: &Op, a: &AdamW) -> LaunchBuilder<'l, 'a> {
    launch
        .input("hyper", &op.inputs[1])
        .input("factor", &op.inputs[2])
        .param_f32("beta1", a.beta1.0)
        .param_f32("rest1", (1.0 - f64::from(a.beta1.0)) as f32)
        .param_f32("beta2", a.beta2.0)
        .param_f32("rest2", (1.0 - f64::from(a.beta2.0)) as f32)
        .param_f32("eps", a.eps.0)
}

/// Copies with conversion, whatever the layouts.
pub(crate) fn copy(to: &mut Lowering<'_>, x: &TensorRef, y: &TensorRef) -> Result<()> {
    if y.dtype.block_bytes() < 4 && !to.can_write(y, Access::Pairs) {
        // Without atomics one invocation writes all that shares words with others.
        return Each::new(template!("copy.wgsl"), to).input("x", x).serial("y", y).launch(|l| l);
    }
    Each::new(template!("copy.wgsl"), to).input("x", x).out("y", y).launch(|l| l)
}

fn fill(to: &mut Lowering<'_>, value: Scalar, y: &TensorRef) -> Result<()> {
    let v = value.0;
    Each::new(template!("fill.wgsl"), to).out("y", y).launch(|l| match y.dtype {
        DType::I32 => l.param_i32("value", v as i32),
        DType::U32 => l.param("value", v as u32 as usize),
        DType::U8 => l.param_i32("value", i32::from(v as u8)),
        DType::I8 => l.param_i32("value", i32::from(v as i8)),
        _ => l.param_f32("value", v),
    })
}

fn name(f: &UnaryFn) -> &'static str {
    match f {
        UnaryFn::Neg => "neg",
        UnaryFn::Abs => "abs",
        UnaryFn::Exp => "exp",
        UnaryFn::Log => "log",
        UnaryFn::Sqrt => "sqrt",
        UnaryFn::Rsqrt => "rsqrt",
        UnaryFn::Recip => "recip",
        UnaryFn::Square => "square",
        UnaryFn::Sigmoid => "sigmoid",
        UnaryFn::Silu => "silu",
        UnaryFn::Tanh => "tanh",
        UnaryFn::Relu => "relu",
        UnaryFn::Affine { .. } => "affine",
        other => unreachable!("{other:?} is in the catalogue and has no kernel"),
    }
}

fn binary_name(f: BinaryFn) -> &'static str {
    match f {
        BinaryFn::Add => "add",
        BinaryFn::Sub => "sub",
        BinaryFn::Mul => "mul",
        BinaryFn::Div => "div",
        BinaryFn::Max => "max",
        BinaryFn::Min => "min",
        BinaryFn::Equal => "equal",
        BinaryFn::Less => "less",
        other => unreachable!("{other:?} is in the catalogue and has no kernel"),
    }
}

/// What of the order of elements the kernel must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    /// Nothing.
    Any,
    /// The place of an element in row-major order.
    RowMajor,
    /// Its place on the last axis.
    Last,
}

/// A launch over operands of one shape.
struct Each<'l, 'a> {
    to: &'l mut Lowering<'a>,
    template: Template,
    literals: Vec<(&'static str, Literal)>,
    operands: Vec<(&'static str, TensorRef, Access)>,
    order: Order,
}

impl<'l, 'a> Each<'l, 'a> {
    fn new(template: Template, to: &'l mut Lowering<'a>) -> Self {
        Each { to, template, literals: Vec::new(), operands: Vec::new(), order: Order::Any }
    }

    fn put(mut self, name: &'static str, value: impl Into<Literal>) -> Self {
        self.literals.push((name, value.into()));
        self
    }

    fn input(mut self, name: &'static str, t: &TensorRef) -> Self {
        self.operands.push((name, t.clone(), Access::Read));
        self
    }

    fn out(mut self, name: &'static str, t: &TensorRef) -> Self {
        let access = if t.dtype.block_bytes() == 1 { Access::Single } else { Access::Pairs };
        self.operands.push((name, t.clone(), access));
        self
    }

    fn serial(mut self, name: &'static str, t: &TensorRef) -> Self {
        self.operands.push((name, t.clone(), Access::Serial));
        self
    }

    fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    fn launch(
        mut self,
        more: impl for<'x, 'y> FnOnce(LaunchBuilder<'x, 'y>) -> LaunchBuilder<'x, 'y>,
    ) -> Result<()> {
        // What can't be written in place goes to memory of its own first.
        let mut later = Vec::new();
        for (_, t, access) in &mut self.operands {
            if *access != Access::Read && *access != Access::Serial && !self.to.can_write(t, *access) {
                if t.dtype.block_bytes() == 1 {
                    *access = Access::Serial;
                    continue;
                }
                // Of whole words: each element can be written by itself.
                let stage = self.to.scratch(DType::F32, &t.shape)?;
                later.push((std::mem::replace(t, stage.clone()), stage));
            }
        }
        // Outputs that are read too start from what they hold.
        if self.template.name == "adamw.wgsl" {
            for (target, stage) in &later {
                copy(self.to, target, stage)?;
            }
        }
        let serial = self.operands.iter().any(|(_, _, a)| *a == Access::Serial);
        let mut views: Vec<TensorRef> = self.operands.iter().map(|(_, t, _)| t.clone()).collect();
        collapse(&mut views, self.order);
        let shape = views[0].shape;
        let n = shape[shape.len() - 1];
        let chunks = n.div_ceil(CHUNK);
        let items = shape[..shape.len() - 1].iter().product::<usize>() * chunks;
        let size = if serial { 1 } else { self.to.info.max_workgroup_size.min(64) };
        // A lone invocation does the work of a group.
        let per = if serial { items.max(1) } else { (64 / size as usize).max(1) };
        let mut launch = self.to.launch(self.template).workgroup([size, 1, 1]);
        for (name, value) in self.literals {
            launch = launch.literal(name, value);
        }
        for ((name, _, access), t) in self.operands.iter().zip(&views) {
            launch = launch.operand(name, t, *access);
        }
        launch = launch
            .loops(per + 1)
            .param("per", per)
            .param("items", items)
            .param("n", n)
            .param("chunks", chunks);
        for (axis, name) in [(1, "n1"), (2, "n2"), (3, "n3")] {
            if axis + 1 < shape.len() {
                launch = launch.param(name, shape[axis]);
            }
        }
        more(launch).linear(items.div_ceil(per * size as usize))?;
        for (target, stage) in later {
            copy(self.to, &stage, &target)?;
        }
        Ok(())
    }
}

/// Joins neighbouring axes that follow each other in every operand's memory, as far as `order` allows.
/// Where it doesn't matter axes are sorted first, so that the last one is that along which the last operand,
/// an output, is dense.
fn collapse(views: &mut [TensorRef], order: Order) {
    let Some(last) = views.last() else { return };
    let fixed = (order == Order::Last).then(|| last.rank() - 1);
    let mut axes: Vec<usize> = (0..last.rank()).filter(|&a| last.shape[a] != 1 || fixed == Some(a)).collect();
    if order == Order::Any {
        axes.sort_by_key(|&a| std::cmp::Reverse(last.strides[a]));
    }
    // Each joined axis: extent, and strides of all operands.
    let mut joined: Vec<(usize, Vec<usize>)> = Vec::new();
    for a in axes {
        let extent = last.shape[a];
        let strides: Vec<usize> = views.iter().map(|t| t.strides[a]).collect();
        match joined.last_mut() {
            Some((n, outer))
                if fixed != Some(a)
                    && outer.iter().zip(&strides).all(|(o, s)| Some(*o) == s.checked_mul(extent)) =>
            {
                *n *= extent;
                *outer = strides;
            }
            _ => joined.push((extent, strides)),
        }
    }
    if joined.is_empty() {
        joined.push((1, vec![1; views.len()]));
    }
    let shape: Vec<usize> = joined.iter().map(|(n, _)| *n).collect();
    for (i, t) in views.iter_mut().enumerate() {
        let strides: Vec<usize> = joined.iter().map(|(_, s)| s[i]).collect();
        *t = t.clone().with_layout(&shape, &strides);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::tests::translates;
    use halite_hal::AdamW;

    fn t(slot: u32, dtype: DType, shape: &[usize]) -> TensorRef {
        TensorRef::slot(slot, dtype, shape)
    }

    #[test]
    fn nothing_is_copied_in_no_launch() {
        let mut info = halite_hal::DeviceInfo::new("test", 0, "test", halite_hal::DeviceKind::Accelerator);
        info.atomics = false;
        let mut to = Lowering::new(&info);
        let (x, y) = (t(0, DType::F32, &[2, 0, 3]), t(1, DType::BF16, &[2, 0, 3]));
        copy(&mut to, &x, &y).unwrap();
        assert!(to.finish().launches.is_empty());
    }

    #[test]
    fn axes_join_where_every_operand_is_dense() {
        let x = t(0, DType::F32, &[2, 3, 4]);
        let mut views = [x.clone(), x.clone()];
        collapse(&mut views, Order::Any);
        assert_eq!(&*views[0].shape, &[24]);
        let mut views = [x.clone().transpose(1, 2), t(1, DType::F32, &[2, 4, 3])];
        collapse(&mut views, Order::Any);
        assert_eq!((&*views[0].shape, &*views[0].strides), (&[2, 4, 3][..], &[12, 1, 4][..]));
        let mut views = [x.clone()];
        collapse(&mut views, Order::Last);
        assert_eq!(&*views[0].shape, &[6, 4]);
        let mut views = [t(0, DType::I32, &[5, 1])];
        collapse(&mut views, Order::Last);
        assert_eq!(&*views[0].shape, &[5, 1]);
        let mut views = [x.transpose(1, 2)];
        collapse(&mut views, Order::Any);
        assert_eq!((&*views[0].shape, &*views[0].strides), (&[24][..], &[1][..]));
    }

    #[test]
    fn kernels_translate_for_every_dtype_and_layout() {
        let mut ops = Vec::new();
        for x in DType::ALL {
            let n = x.block_elems().max(32);
            for y in DType::ALL.into_iter().filter(|d| !d.is_block()) {
                let from = t(0, x, &[4, n]);
                ops.push(Op::copy(from.clone(), t(1, y, &[4, n])));
                ops.push(Op::copy(from.transpose(0, 1), t(1, y, &[n, 4]).with_offset(3)));
            }
        }
        for d in DType::FLOATS {
            let (x, y) = (t(0, d, &[3, 8]), t(1, d, &[3, 9]).slice(1, 0, 8));
            ops.push(Op::fill(1.0, y.clone()));
            ops.push(Op::unary(UnaryFn::Silu, x.clone(), y.clone()));
            ops.push(Op::unary(UnaryFn::Log, x.clone(), x.clone()));
            ops.push(Op::binary(BinaryFn::Less, x.clone(), t(2, d, &[3, 8]), y.clone()));
            ops.push(Op::swiglu(x.clone(), t(2, d, &[3, 8]), x.clone()));
            let f = DType::F32;
            let adamw = OpKind::AdamW(AdamW::new(0.9, 0.99, 1e-8, 0.1));
            let state = vec![x.clone(), t(3, f, &[3, 8]), t(4, f, &[3, 8])];
            ops.push(Op::new(adamw, vec![y, t(5, f, &[3]), t(6, f, &[1])], state));
        }
        ops.push(Op::new(OpKind::Iota, vec![], vec![t(0, DType::I32, &[2, 5])]));
        let state = vec![t(0, DType::U32, &[4])];
        for (d, y) in [
            (Distribution::Bits, DType::U32),
            (Distribution::Uniform, DType::F32),
            (Distribution::Normal, DType::F32),
        ] {
            ops.push(Op::new(OpKind::Philox(d), state.clone(), vec![t(1, y, &[3, 7]).transpose(0, 1)]));
        }
        translates(&Elementwise, &ops);
    }
}
