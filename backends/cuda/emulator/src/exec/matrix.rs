//! Matrices: products over a warp, and between shared memory and registers.
//!
//! Where elements are is as the PTX ISA draws it ("Matrix Fragments for mma"): lane `4 g + q` has, of A, the rows
//! `g` and `g + 8`, of B, the column `g`, and of the sums, the columns `2 q` and `2 q + 1`.

use super::block::Block;
use super::file::{FULL, File};
use super::rounding::{NEAREST, f16_of};
use super::warp::Warp;
use super::{FaultKind, Trouble};
use crate::ptx::op::{Address, Factor, Matrices, Product};
use half::{bf16, f16};

/// That all lanes of the warp take part.
fn all_lanes(active: u32) -> Result<(), Trouble> {
    if active == FULL {
        return Ok(());
    }
    let what = format!("an instruction for all lanes of a warp, in {active:08x}");
    Err(Trouble::new(FaultKind::IllegalInstruction, None, what))
}

/// An element `k` of what a register holds, exactly.
fn element(file: &File, factor: Factor, reg: u32, lane: usize, k: usize) -> f64 {
    let word = || file.row::<u32>(reg)[lane];
    match factor {
        Factor::F16 => f64::from(f16::from_bits((word() >> (16 * k)) as u16)),
        Factor::Bf16 => f64::from(bf16::from_bits((word() >> (16 * k)) as u16)),
        // The lower bits aren't looked at.
        Factor::Tf32 => f64::from(f32::from_bits(word() & 0xFFFF_E000)),
        Factor::F64 => f64::from_bits(file.row::<u64>(reg)[lane]),
        Factor::S8 => f64::from((word() >> (8 * k)) as i8),
        Factor::U8 => f64::from((word() >> (8 * k)) as u8),
    }
}

impl Warp {
    /// Products are exact, and sums are rounded once, to the type of the result, but for f64.
    pub(super) fn product(&mut self, p: &Product, active: u32) -> Result<(), Trouble> {
        all_lanes(active)?;
        let [m, n, depth] = p.shape;
        let each = p.a_type.in_register();
        let (mut a, mut b, mut c) = ([[0.0; 32]; 16], [[0.0; 8]; 32], [[0.0; 8]; 16]);
        let integers = matches!(p.a_type, Factor::S8 | Factor::U8);
        let halves = m / 8;
        for lane in 0..32 {
            let (g, q) = (lane / 4, lane % 4);
            for (r, &reg) in p.a.iter().enumerate() {
                for k in 0..each {
                    let column = q * each + k + 4 * each * (r / halves);
                    a[g + 8 * (r % halves)][column] = element(&self.file, p.a_type, reg, lane, k);
                }
            }
            for (r, &reg) in p.b.iter().enumerate() {
                for k in 0..each {
                    b[q * each + k + 4 * each * r][g] = element(&self.file, p.b_type, reg, lane, k);
                }
            }
            each_sum(p, &p.c, lane, |row, column, reg, k| {
                c[row][column] = if p.half_sums {
                    element(&self.file, Factor::F16, reg, lane, k)
                } else if p.a_type == Factor::F64 {
                    element(&self.file, Factor::F64, reg, lane, k)
                } else if integers {
                    f64::from(self.file.row::<u32>(reg)[lane] as i32)
                } else {
                    f64::from(f32::from_bits(self.file.row::<u32>(reg)[lane]))
                };
            });
        }
        for row in 0..m {
            for column in 0..n {
                let sum = (0..depth).map(|k| a[row][k] * b[k][column]).sum::<f64>();
                c[row][column] += sum;
            }
        }
        for lane in 0..32 {
            each_sum(p, &p.d, lane, |row, column, reg, k| {
                let x = c[row][column];
                if p.a_type == Factor::F64 {
                    self.file.row_mut::<u64>(reg)[lane] = x.to_bits();
                    return;
                }
                let word = &mut self.file.row_mut::<u32>(reg)[lane];
                if p.half_sums {
                    let half = u32::from(f16_of(x, NEAREST).to_bits());
                    *word = *word & !(0xFFFF << (16 * k)) | half << (16 * k);
                } else if integers && p.saturate {
                    *word = (x as i32) as u32;
                } else if integers {
                    // Below 2^53: exact.
                    *word = x as i64 as u32;
                } else {
                    *word = (x as f32).to_bits();
                }
            });
        }
        Ok(())
    }

    pub(super) fn matrices(
        &mut self,
        m: &Matrices,
        active: u32,
        block: &mut Block<'_>,
    ) -> Result<(), Trouble> {
        all_lanes(active)?;
        for (n, &reg) in m.regs.iter().enumerate() {
            // Lanes 8 n to 8 n + 7 have the addresses of the rows of matrix n.
            let rows = 0xFF_u32 << (8 * n);
            let places = self.places(&Address { ..m.at }, 16, rows, m.store, block)?;
            for lane in 0..32 {
                for k in 0..2 {
                    let (r, c) = (lane / 4, 2 * (lane % 4) + k);
                    let (row, column) = if m.transposed { (c, r) } else { (r, c) };
                    let source = 8 * n + row;
                    if places.shared >> source & 1 == 0 {
                        let what = "a matrix outside of shared memory";
                        return Err(Trouble::new(FaultKind::IllegalAddress, source, what));
                    }
                    let offset = places.offsets[source] + 2 * column as u64;
                    let at = places.host[source].wrapping_add(2 * column).cast::<u16>();
                    let who = self.who(lane, false);
                    let word = &mut self.file.row_mut::<u32>(reg)[lane];
                    if m.store {
                        let half = (*word >> (16 * k)) as u16;
                        block.shared.write(offset, &half.to_le_bytes(), who)?;
                        // SAFETY: `places` found the 16 bytes of the row.
                        unsafe { at.write(half) };
                    } else {
                        block.shared.read(offset, 2, who)?;
                        // SAFETY: `places` found the 16 bytes of the row.
                        let half = u32::from(unsafe { at.read() });
                        *word = *word & !(0xFFFF << (16 * k)) | half << (16 * k);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Row, column, register and element of each sum that a lane has.
fn each_sum(p: &Product, regs: &[u32], lane: usize, mut f: impl FnMut(usize, usize, u32, usize)) {
    let (g, q) = (lane / 4, lane % 4);
    for (r, &reg) in regs.iter().enumerate() {
        if p.half_sums {
            f(g + 8 * r, 2 * q, reg, 0);
            f(g + 8 * r, 2 * q + 1, reg, 1);
        } else {
            f(g + 8 * (r / 2), 2 * q + r % 2, reg, 0);
        }
    }
}
