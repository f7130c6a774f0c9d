//! A case: an op, what its operands hold and how they lie in memory.

use super::data::Data;
use crate::reference::{Array, encode, for_each_offset};
use crate::{DType, Op, OpKind, Shape, Strides, TensorRef};

/// What memory holds around the views: as an f32 1.5e16, as an f16 203, as an index far out of range.
pub const SENTINEL: u8 = 0x5a;
/// Bytes of sentinel after an output.
const GUARD: usize = 64;

/// What an operand holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// These values.
    Dense(Array),
    /// These values, axes of extent 1 repeated to this shape by strides of 0.
    Broadcast(Array, Shape),
    /// Random blocks.
    Blocks(DType, Shape),
}

impl Value {
    pub fn dtype(&self) -> DType {
        match self {
            Value::Dense(a) | Value::Broadcast(a, _) => a.dtype,
            Value::Blocks(dtype, _) => *dtype,
        }
    }
    pub fn shape(&self) -> Shape {
        match self {
            Value::Dense(a) => a.shape,
            Value::Broadcast(_, shape) | Value::Blocks(_, shape) => *shape,
        }
    }
}

impl From<Array> for Value {
    fn from(a: Array) -> Self {
        Value::Dense(a)
    }
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Contiguous, at the start.
    Plain,
    /// Contiguous, at an odd offset.
    Offset,
    /// Gaps of odd size after every row and plane; a vector has gaps between its elements.
    Padded,
    /// The first axis varies fastest (of the last two axes, for block types).
    Permuted,
    /// Contiguous, at the start, the last two axes swapped: as weights of models lie.
    Columns,
}

impl Style {
    /// Those that cases take turns in.
    pub const ALL: [Style; 4] = [Style::Plain, Style::Offset, Style::Padded, Style::Permuted];

    /// Offset and strides, in elements.
    pub fn place(self, shape: &[usize], dtype: DType) -> (usize, Strides) {
        let block = dtype.block_elems();
        let rank = shape.len();
        // Axes, fastest first.
        let mut order: Vec<usize> = (0..rank).rev().collect();
        let mut style = self;
        if self == Style::Permuted {
            if block == 1 {
                order.reverse();
            } else if rank >= 2 && shape[rank - 2].is_multiple_of(block) {
                order.swap(0, 1);
            } else {
                style = Style::Plain;
            }
        }
        if self == Style::Columns && rank >= 2 {
            order.swap(0, 1);
        }
        let (offset, gap) = match style {
            Style::Plain | Style::Columns => (0, 0),
            Style::Offset => (3 * block, 0),
            Style::Padded => (block, 3 * block),
            Style::Permuted => (2 * block, 0),
        };
        let mut strides = Strides::new(&vec![0; rank]);
        let mut step = if rank == 1 && block == 1 && style == Style::Padded { 3 } else { 1 };
        for axis in order {
            strides.dims_mut()[axis] = step;
            step = step * shape[axis].max(1) + gap;
        }
        (offset, strides)
    }
}

/// An operand in memory: the bytes of the whole buffer, and the values.
pub struct Laid {
    pub bytes: Vec<u8>,
    pub values: Array,
}

impl Value {
    /// The shape of what is stored: of a repeated axis once.
    fn stored(&self) -> Shape {
        match self {
            Value::Dense(a) | Value::Broadcast(a, _) => a.shape,
            Value::Blocks(_, shape) => *shape,
        }
    }

    /// Offset and strides, in elements.
    fn place(&self, style: Style) -> (usize, Strides) {
        let (shape, stored) = (self.shape(), self.stored());
        let (offset, mut strides) = style.place(&stored, self.dtype());
        for (axis, (n, full)) in stored.iter().zip(shape.iter()).enumerate() {
            if n != full {
                strides.dims_mut()[axis] = 0;
            }
        }
        (offset, strides)
    }

    /// Lays the operand out; `guard` adds sentinels behind it.
    pub fn lay(&self, style: Style, guard: bool, data: &mut Data) -> Laid {
        let dtype = self.dtype();
        let shape = self.shape();
        let stored = self.stored();
        let (offset, strides) = self.place(style);
        let mut end = offset;
        if stored.elems() > 0 {
            end += stored.iter().zip(strides.iter()).map(|(n, s)| (n - 1) * s).sum::<usize>() + 1;
        }
        let blocks = end.div_ceil(dtype.block_elems());
        let used = (blocks * dtype.block_bytes()).next_multiple_of(4).max(4);
        let mut bytes = vec![SENTINEL; used + if guard { GUARD } else { 0 }];
        let read = |bytes: &[u8], strides: Strides| {
            let view = TensorRef::slot(0, dtype, &[]).with_layout(&shape, &strides).with_offset(offset);
            Array::read(&view, bytes)
        };
        let values = match self {
            Value::Dense(a) => {
                let mut x = a.data.iter();
                for_each_offset(&shape, &strides, offset, &mut |at| {
                    encode(dtype, &mut bytes, at, *x.next().expect("one value an element"));
                });
                a.clone()
            }
            Value::Broadcast(a, _) => {
                let mut x = a.data.iter();
                for_each_offset(&stored, &strides, offset, &mut |at| {
                    encode(dtype, &mut bytes, at, *x.next().expect("one value an element"));
                });
                read(&bytes, strides)
            }
            Value::Blocks(..) => {
                data.blocks(dtype, &mut bytes[..blocks * dtype.block_bytes()]);
                read(&bytes, strides)
            }
        };
        Laid { bytes, values }
    }
}

/// One thing to try.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub kind: OpKind,
    pub inputs: Vec<Value>,
    /// What the outputs hold before; only their dtype and shape matter unless the op updates them.
    pub outputs: Vec<Value>,
    /// How each operand lies, inputs first; the list is repeated.
    pub styles: Vec<Style>,
    /// Whether outputs take the memory of the inputs that they may be in place of.
    pub in_place: bool,
    /// Whether all operands lie in one buffer.
    pub pooled: bool,
    /// Whether the weight of a product is first packed, if the device has a layout of its own for it.
    pub packed: bool,
}

impl Case {
    /// The op on slots.
    pub fn op(&self) -> Op {
        let tensor = |slot: usize, v: &Value| {
            let (offset, strides) = v.place(self.styles[slot % self.styles.len()]);
            let slot = u32::try_from(slot).expect("a few operands");
            TensorRef::slot(slot, v.dtype(), &[]).with_layout(&v.shape(), &strides).with_offset(offset)
        };
        let inputs = self.inputs.iter().enumerate().map(|(i, v)| tensor(i, v)).collect();
        let place = |o: usize| self.place_of(o).unwrap_or(self.inputs.len() + o);
        let outputs = self.outputs.iter().enumerate().map(|(o, v)| tensor(place(o), v)).collect();
        Op::new(self.kind.clone(), inputs, outputs)
    }

    /// The input whose memory output `o` takes.
    pub fn place_of(&self, o: usize) -> Option<usize> {
        let i = self.kind.in_place(o).filter(|_| self.in_place)?;
        let (input, output) = (&self.inputs[i], &self.outputs[o]);
        let dense = matches!(input, Value::Dense(_));
        (dense && input.dtype() == output.dtype() && input.shape() == output.shape()).then_some(i)
    }
}

/// How the operands of a case share memory.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    Apart,
    InPlace,
    Pooled,
}

/// Collects the cases of an op.
pub struct Cases {
    pub data: Data,
    pub list: Vec<Case>,
}

impl Cases {
    pub fn new(data: Data) -> Self {
        Cases { data, list: Vec::new() }
    }

    /// An output; what it holds before is random for float and block types and 0 for others.
    pub fn out(&mut self, dtype: DType, shape: &[usize]) -> Value {
        match dtype.is_float() {
            true => self.data.normal(dtype, shape, 1.0).into(),
            false if dtype.is_block() => Value::Blocks(dtype, Shape::new(shape)),
            false => Array::full(dtype, shape, 0.0).into(),
        }
    }

    fn push(&mut self, name: &str, styles: &[Style], memory: Memory, op: (OpKind, Vec<Value>, Vec<Value>)) {
        let (kind, inputs, outputs) = op;
        let operands = inputs.iter().map(describe).collect::<Vec<_>>().join(" ");
        let layout = styles.iter().map(|s| format!("{s:?}").to_lowercase()).collect::<Vec<_>>().join("+");
        let (in_place, pooled) = (memory == Memory::InPlace, memory == Memory::Pooled);
        let place = ["", " in place", " in one buffer"][memory as usize];
        let results = outputs.iter().map(describe).collect::<Vec<_>>().join(" ");
        let name = format!("{name} ({operands}) -> ({results}) {layout}{place}");
        let styles = styles.into();
        self.list.push(Case { name, kind, inputs, outputs, styles, in_place, pooled, packed: false });
    }

    /// Adds a product whose weight is packed.
    pub fn packed(&mut self, name: &str, kind: OpKind, inputs: Vec<Value>, outputs: Vec<Value>) {
        use Style::{Columns, Plain};
        self.push(name, &[Plain, Columns, Plain, Plain], Memory::Apart, (kind, inputs, outputs));
        self.list.last_mut().expect("just pushed").packed = true;
    }

    /// Adds a case; layouts take turns from case to case.
    pub fn add(&mut self, name: &str, kind: OpKind, inputs: Vec<Value>, outputs: Vec<Value>) {
        let style = Style::ALL[self.list.len() % 4];
        self.push(name, &[style], Memory::Apart, (kind, inputs, outputs));
    }

    /// Adds a case whose operands lie so, inputs first.
    pub fn lie(
        &mut self,
        name: &str,
        styles: &[Style],
        kind: OpKind,
        inputs: Vec<Value>,
        outputs: Vec<Value>,
    ) {
        self.push(name, styles, Memory::Apart, (kind, inputs, outputs));
    }

    /// Adds a case in every layout, in mixed ones, in one buffer, and in place where the op allows that.
    pub fn all(&mut self, name: &str, kind: OpKind, inputs: Vec<Value>, outputs: Vec<Value>) {
        for style in Style::ALL {
            self.push(name, &[style], Memory::Apart, (kind.clone(), inputs.clone(), outputs.clone()));
        }
        let mixed = [Style::Padded, Style::Plain, Style::Permuted, Style::Offset, Style::Padded];
        self.push(name, &mixed, Memory::Apart, (kind.clone(), inputs.clone(), outputs.clone()));
        self.push(name, &mixed[2..], Memory::Pooled, (kind.clone(), inputs.clone(), outputs.clone()));
        self.in_place(name, kind, inputs, outputs);
    }

    /// Adds a case in place, if the op allows that for these operands.
    pub fn in_place(&mut self, name: &str, kind: OpKind, inputs: Vec<Value>, outputs: Vec<Value>) {
        for style in [Style::Plain, Style::Padded] {
            self.push(name, &[style], Memory::InPlace, (kind.clone(), inputs.clone(), outputs.clone()));
            let case = &self.list[self.list.len() - 1];
            if (0..outputs.len()).all(|o| case.place_of(o).is_none()) {
                self.list.pop();
            }
        }
    }
}

fn describe(v: &Value) -> String {
    let mark = if matches!(v, Value::Broadcast(..)) { "*" } else { "" };
    format!("{}{:?}{mark}", v.dtype(), v.shape())
}
