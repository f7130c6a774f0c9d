//! How C lays a type out, compared with how WGSL does.

use naga::{ArraySize, Handle, Module, Type, TypeInner};

use super::WriteError;
use super::types::inner_lanes;

/// Size and alignment in bytes that C gives a type. Both dialects agree: a vector of three takes four lanes.
#[derive(Clone, Copy)]
pub(super) struct CLayout {
    pub size: u32,
    pub align: u32,
}

/// The bytes to insert before each member of a structure, and at its end.
pub(super) struct Padding {
    pub before: Vec<u32>,
    pub end: u32,
}

/// How C lays out `ty`, which has been found writable as it is in WGSL.
pub(super) fn c_layout(module: &Module, ty: Handle<Type>) -> Result<CLayout, WriteError> {
    let inner = &module.types[ty].inner;
    if let Some(Ok(lanes)) = inner_lanes(inner) {
        let lanes = if lanes.size == 3 { 4 } else { lanes.size as u32 };
        return Ok(CLayout { size: 4 * lanes, align: 4 * lanes });
    }
    match *inner {
        TypeInner::Array { base, size: ArraySize::Constant(count), stride } => {
            let element = element_layout(module, ty, base, stride)?;
            Ok(CLayout { size: element.size * count.get(), align: element.align })
        }
        TypeInner::Struct { ref members, span } => {
            let mut align = 4;
            for member in members {
                align = align.max(c_layout(module, member.ty)?.align);
            }
            Ok(CLayout { size: span, align })
        }
        _ => Err(layout_error(type_name(module, ty), "it has no fixed size".into())),
    }
}

/// The layout of an array's elements, if they follow each other in C as they do in WGSL.
pub(super) fn element_layout(
    module: &Module,
    array: Handle<Type>,
    base: Handle<Type>,
    stride: u32,
) -> Result<CLayout, WriteError> {
    let element = c_layout(module, base)?;
    if element.size != stride {
        let why = format!("its elements are {stride} bytes apart, and C puts them {} apart", element.size);
        return Err(layout_error(type_name(module, array), why));
    }
    Ok(element)
}

/// What C needs to put the members of the structure `ty` where WGSL puts them.
pub(super) fn padding(module: &Module, ty: Handle<Type>) -> Result<Padding, WriteError> {
    let TypeInner::Struct { ref members, span } = module.types[ty].inner else {
        return Ok(Padding { before: Vec::new(), end: 0 });
    };
    let struct_name = type_name(module, ty);
    let mut before = Vec::new();
    let mut end = 0;
    for (index, member) in members.iter().enumerate() {
        let layout = c_layout(module, member.ty)?;
        if member.offset < end || member.offset % layout.align != 0 {
            let name = member.name.clone().unwrap_or_else(|| index.to_string());
            let why = format!(
                "its offset is {}, and C needs {} or a later multiple of {}",
                member.offset,
                end.next_multiple_of(layout.align),
                layout.align
            );
            return Err(layout_error(format!("{struct_name}.{name}"), why));
        }
        // Whatever C would insert by itself it needn't be told.
        let natural = end.next_multiple_of(layout.align);
        before.push(member.offset - if member.offset == natural { member.offset } else { end });
        end = member.offset + layout.size;
    }
    let align = c_layout(module, ty)?.align;
    if span < end || span % align != 0 {
        let why = format!("its size is {span} bytes, and in C it is {}", end.next_multiple_of(align));
        return Err(layout_error(struct_name, why));
    }
    let end = if span == end.next_multiple_of(align) { 0 } else { span - end };
    Ok(Padding { before, end })
}

fn type_name(module: &Module, ty: Handle<Type>) -> String {
    let Type { ref name, ref inner } = module.types[ty];
    match (name, inner, inner_lanes(inner)) {
        (Some(name), ..) => name.clone(),
        (None, TypeInner::Array { base, .. }, _) => format!("array<{}>", type_name(module, *base)),
        (None, _, Some(Ok(lanes))) => lanes.id(),
        (None, inner, _) => format!("{inner:?}"),
    }
}

fn layout_error(what: String, why: String) -> WriteError {
    WriteError::Layout { what, why }
}
