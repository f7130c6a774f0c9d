//! Machine code as `nvdisasm` prints it: its main loop, and what instructions that has.

use std::fmt;

/// What an instruction is for; in the order in which a table names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// `HMMA`: matrix products.
    Matrix,
    /// `LDSM`: matrices from shared memory.
    LoadMatrix,
    /// `LDGSTS`: asynchronous copies to shared memory.
    CopyAsync,
    /// From shared memory.
    LoadShared,
    /// To shared memory.
    StoreShared,
    /// From and to global memory.
    Global,
    /// From and to local memory: registers that didn't suffice.
    Local,
    /// Barriers and waits.
    Wait,
    /// Arithmetic of floats.
    Float,
    /// Arithmetic of integers, addresses, moves and predicates.
    Integer,
    /// Branches.
    Branch,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Matrix => "HMMA",
            Class::LoadMatrix => "LDSM",
            Class::CopyAsync => "LDGSTS",
            Class::LoadShared => "LDS",
            Class::StoreShared => "STS",
            Class::Global => "global",
            Class::Local => "local",
            Class::Wait => "wait",
            Class::Float => "float",
            Class::Integer => "integer",
            Class::Branch => "branch",
        })
    }
}

fn class(opcode: &str) -> Class {
    let name = opcode.split('.').next().unwrap_or_default();
    match name {
        "HMMA" | "IMMA" | "HGMMA" => Class::Matrix,
        "LDSM" => Class::LoadMatrix,
        "LDGSTS" => Class::CopyAsync,
        "LDS" => Class::LoadShared,
        "STS" | "ATOMS" => Class::StoreShared,
        "LDG" | "STG" | "LD" | "ST" | "RED" | "ATOM" | "ATOMG" => Class::Global,
        "LDL" | "STL" => Class::Local,
        "BAR" | "LDGDEPBAR" | "DEPBAR" | "WARPSYNC" | "NANOSLEEP" => Class::Wait,
        "BRA" | "BSSY" | "BSYNC" | "EXIT" | "RET" | "CALL" | "BREAK" | "BRX" | "YIELD" => Class::Branch,
        "FADD" | "FMUL" | "FFMA" | "MUFU" | "FMNMX" | "FSETP" | "FSEL" | "FSET" | "HADD2" | "HMUL2"
        | "HFMA2" | "HMNMX2" | "HSETP2" | "F2F" | "F2I" | "I2F" | "F2FP" | "FCHK" | "FRND" | "I2FP"
        | "FSWZADD" => Class::Float,
        _ => Class::Integer,
    }
}

/// Instructions of a piece of code, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mix(Vec<(Class, usize)>);

impl Mix {
    pub(super) fn of(&self, class: Class) -> usize {
        self.0.iter().find(|(c, _)| *c == class).map_or(0, |(_, n)| *n)
    }

    pub(super) fn all(&self) -> usize {
        self.0.iter().map(|(_, n)| n).sum()
    }

    fn count<'a>(opcodes: impl Iterator<Item = &'a str>) -> Mix {
        let mut classes: Vec<Class> = opcodes.map(class).collect();
        classes.sort_unstable();
        Mix(classes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect())
    }
}

/// Each class with its share of all, that of matrix products first.
impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (class, n)) in self.0.iter().enumerate() {
            write!(f, "{}{class} {n}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// A kernel's code.
#[derive(Debug)]
pub(super) struct Code<'a> {
    opcodes: Vec<&'a str>,
    /// First and last instruction of each backward branch's loop.
    loops: Vec<(usize, usize)>,
}

impl<'a> Code<'a> {
    /// From the text of a file that has one kernel.
    pub(super) fn read(text: &'a str) -> Code<'a> {
        let (mut opcodes, mut loops, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines().map(str::trim) {
            if let Some(label) = line.strip_suffix(':').filter(|l| l.starts_with(".L")) {
                labels.push((label, opcodes.len()));
                continue;
            }
            let Some((_, instruction)) = line.strip_prefix("/*").and_then(|l| l.split_once("*/")) else {
                continue;
            };
            let mut words = instruction.split_whitespace().skip_while(|word| word.starts_with('@'));
            let Some(opcode) = words.next() else { continue };
            let opcode = opcode.trim_end_matches(';');
            if opcode == "NOP" {
                continue;
            }
            if opcode.starts_with("BRA")
                && let Some(label) = instruction.split("`(").nth(1).and_then(|rest| rest.split(')').next())
                && let Some((_, first)) = labels.iter().find(|(name, _)| *name == label)
                && *first < opcodes.len()
            {
                loops.push((*first, opcodes.len()));
            }
            opcodes.push(opcode);
        }
        Code { opcodes, loops }
    }

    pub(super) fn mix(&self) -> Mix {
        Mix::count(self.opcodes.iter().copied())
    }

    /// The loop in which most of the work is done: of all that have matrix products, or else arithmetic of floats,
    /// that where their share is highest. None without such a loop.
    pub(super) fn main_loop(&self) -> Option<Mix> {
        let mixes = || self.loops.iter().map(|&(a, b)| Mix::count(self.opcodes[a..=b].iter().copied()));
        let best = |class| {
            let with = mixes().filter(|mix| mix.of(class) > 0);
            // Shares compared without division: a / b > c / d.
            with.max_by(|a, b| (a.of(class) * b.all()).cmp(&(b.of(class) * a.all())))
        };
        best(Class::Matrix).or_else(|| best(Class::Float))
    }
}

#[test]
fn the_main_loop_is_found() {
    let text = "
\t.section\t.text.main_
main_:
.text.main_:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDGSTS.E.BYPASS.128 [R5], desc[UR6][R2.64] ;
.L_x_2:
        /*0020*/                   LDSM.16.M88.4 R4, [R1] ;
        /*0030*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0040*/              @!P0 BRA `(.L_x_2) ;
        /*0050*/                   IADD3 R4, R5, 0x1, RZ ;
        /*0060*/               @P1 BRA `(.L_x_1);
.L_x_3:
        /*0070*/                   EXIT ;
.L_x_4:
        /*0080*/                   BRA `(.L_x_4);
        /*0090*/                   NOP;
";
    let code = Code::read(text);
    assert_eq!(code.loops, [(2, 4), (1, 6)]);
    let main = code.main_loop().unwrap();
    assert_eq!(main.to_string(), "HMMA 1, LDSM 1, branch 1");
    assert_eq!((main.all(), code.mix().all(), code.mix().of(Class::Local)), (3, 9, 0));
    assert!(Code::read("main_:\n /*0000*/ EXIT ;\n").main_loop().is_none());
}
