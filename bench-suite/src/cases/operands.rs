//! Operands of a case: slots, what they hold, and their way onto a device.

use super::Case;
use crate::Result;
use half::{bf16, f16};
use halite_hal::philox::Normals;
use halite_hal::{Binding, DType, Device, Graph, Op, Recording, StreamId, TensorRef};

/// What an operand holds before the first run.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Standard normals.
    Normal,
    /// Zero bytes.
    Zeros,
    /// These numbers.
    Given(Vec<u8>),
}

/// Slots under construction.
#[derive(Default)]
pub(super) struct Operands {
    graph: Graph,
    data: Vec<Data>,
}

impl Operands {
    pub fn new() -> Self {
        Self::default()
    }

    fn put(&mut self, dtype: DType, shape: &[usize], data: Data) -> TensorRef {
        self.data.push(data);
        self.graph.external(dtype, shape)
    }

    /// Of standard normals.
    pub fn normal(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        self.put(dtype, shape, Data::Normal)
    }

    /// Of zeros.
    pub fn zeros(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        self.put(dtype, shape, Data::Zeros)
    }

    /// Of given i32 numbers.
    pub fn ints(&mut self, shape: &[usize], values: &[i32]) -> TensorRef {
        self.put(DType::I32, shape, Data::Given(bytemuck::cast_slice(values).to_vec()))
    }

    /// Of given f32 numbers.
    pub fn floats(&mut self, values: &[f32]) -> TensorRef {
        self.put(DType::F32, &[values.len()], Data::Given(bytemuck::cast_slice(values).to_vec()))
    }

    /// The case of an op on these operands, which moves each of them once.
    pub fn case(mut self, op: Op, case: impl Into<String>, dtype: DType, flops: usize) -> Case {
        let updated = op.outputs.iter().enumerate().filter(|(o, _)| op.kind.updates(*o)).map(|(_, t)| t);
        let bytes = op.operands().chain(updated).map(bytes).sum();
        self.graph.push(op);
        Case {
            case: case.into(),
            dtype,
            skew: None,
            flops: flops as u64,
            bytes,
            graph: self.graph,
            data: self.data,
        }
    }
}

/// Bytes of the elements of a view, repeated ones once.
fn bytes(t: &TensorRef) -> u64 {
    let distinct = t.shape.iter().zip(t.strides.iter()).filter(|(_, s)| **s > 0).map(|(&n, _)| n as u64);
    distinct.product::<u64>() * t.dtype.block_bytes() as u64 / t.dtype.block_elems() as u64
}

/// A case on a device, ready to be replayed.
#[derive(Debug)]
pub struct Loaded {
    /// The op.
    pub recording: Recording,
    /// Its operands.
    pub bindings: Vec<Binding>,
}

impl Case {
    /// Puts the operands on a device and records the op.
    pub fn load(&self, device: &dyn Device) -> Result<Loaded> {
        let mut bindings = Vec::new();
        for (i, data) in self.data.iter().enumerate() {
            // Every slot is an operand of the one op.
            let operand = self.op().operands().find(|t| slot(t) == Some(i as u32));
            let (dtype, first) =
                operand.map_or((DType::U8, 1), |t| (t.dtype, t.shape.first().copied().unwrap_or(1)));
            let bytes = self.graph.slots[i].bytes;
            let row = if operand.is_some_and(|t| t.rank() > 1) { bytes / first.max(1) as u64 } else { 0 };
            let buffer = device.allocate(bytes, row)?;
            device.upload(StreamId(0), &buffer, 0, &data.bytes(dtype, bytes as usize))?;
            bindings.push(Binding::new(i as u32, &buffer));
        }
        Ok(Loaded { recording: device.record(&self.graph)?, bindings })
    }
}

fn slot(t: &TensorRef) -> Option<u32> {
    match t.source {
        halite_hal::Source::Slot(s) => Some(s),
        _ => None,
    }
}

impl Data {
    fn bytes(&self, dtype: DType, n: usize) -> Vec<u8> {
        /// More than any vector of a kernel; the same numbers again after that.
        const PERIOD: usize = 4096;
        let normals = || Normals::new(1, 0).take(PERIOD).map(|x| x as f32);
        let period: Vec<u8> = match (self, dtype) {
            (Data::Zeros, _) => return vec![0; n],
            (Data::Given(bytes), _) => return bytes.clone(),
            (Data::Normal, DType::F16) => normals().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            (Data::Normal, DType::BF16) => normals().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            (Data::Normal, _) => normals().flat_map(f32::to_le_bytes).collect(),
        };
        period.into_iter().cycle().take(n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_fill_their_operands() {
        assert_eq!(Data::Normal.bytes(DType::BF16, 20_000).len(), 20_000);
        let some: Vec<f32> = bytemuck::pod_collect_to_vec(&Data::Normal.bytes(DType::F32, 4 * 4096));
        let mean = some.iter().sum::<f32>() / some.len() as f32;
        assert!(mean.abs() < 0.1 && some.iter().any(|x| *x > 2.0));
        let mut o = Operands::new();
        let x = o.ints(&[2, 2], &[1, 2, 3, 4]);
        assert_eq!(o.data[0].bytes(x.dtype, 16), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    }
}
