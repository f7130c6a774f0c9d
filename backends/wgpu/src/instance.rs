//! Makes the instance: the place where the system's libraries are opened.

use wgpu::InstanceFlags;

/// What wgpu looks for on this system, and what makes devices appear.
pub(crate) const SOUGHT: &str = if cfg!(windows) {
    "Direct3D 12 and Vulkan (vulkan-1.dll); both come with the graphics card's driver"
} else if cfg!(target_vendor = "apple") {
    "Metal, which is part of the system"
} else {
    "Vulkan (libvulkan.so.1); Debian/Ubuntu: libvulkan1 and the maker's driver, or mesa-vulkan-drivers"
};

fn flags(validation: bool) -> InstanceFlags {
    // Whether a driver conforms is for Halite's own suite to say.
    let always = InstanceFlags::ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER;
    if validation { always | InstanceFlags::VALIDATION | InstanceFlags::DEBUG } else { always }
}

/// An instance, or why there is none.
#[cfg(any(windows, target_vendor = "apple"))]
pub(crate) fn make(validation: bool) -> Result<wgpu::Instance, String> {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.flags = flags(validation);
    Ok(wgpu::Instance::new(desc))
}

/// An instance, or why there is none.
///
/// It is made without window systems. With them, a layer of Mesa's connects to the screen to find the devices
/// in order, and where there is no screen, as in a container, a library complains on the terminal.
#[cfg(not(any(windows, target_vendor = "apple")))]
pub(crate) fn make(validation: bool) -> Result<wgpu::Instance, String> {
    use ash::khr;
    use wgpu::hal::{InstanceDescriptor, api, vulkan};
    let desc = InstanceDescriptor {
        name: "halite",
        flags: flags(validation),
        memory_budget_thresholds: Default::default(),
        backend_options: Default::default(),
        telemetry: None,
        display: None,
    };
    let windows = [khr::xlib_surface::NAME, khr::xcb_surface::NAME, khr::wayland_surface::NAME];
    let without = Box::new(move |args: vulkan::CreateInstanceCallbackArgs<'_, '_, '_>| {
        args.extensions.retain(|name| !windows.contains(name));
    });
    // SAFETY: what is left out is only used to make surfaces, and wgpu looks there whether it is in the list;
    // nothing is added.
    let instance = unsafe { vulkan::Instance::init_with_callback(&desc, Some(without)) };
    let instance = instance.map_err(|e| match std::error::Error::source(&e) {
        Some(cause) => format!("{e} ({cause})"),
        None => e.to_string(),
    })?;
    // SAFETY: it was made for this call.
    Ok(unsafe { wgpu::Instance::from_hal::<api::Vulkan>(instance) })
}
