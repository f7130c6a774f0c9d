//! The instance and the logical device, and what the validation layer says of their use.

use crate::info;
use ash::{Device, Entry, Instance, ext, khr, vk};
use halite_hal::{Error, Result};
use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, PoisonError};

/// The validation layer's name.
const VALIDATION: &CStr = c"VK_LAYER_KHRONOS_validation";

/// Why there are no devices where there is a loader.
pub(crate) const NO_DRIVER: &str = "the Vulkan loader is there, but no driver offers a device of Vulkan 1.1; \
    drivers are found through the .json files in vulkan/icd.d of the system's data folders, or those that \
    VK_DRIVER_FILES names; Debian and Ubuntu have the maker's packages, and mesa-vulkan-drivers, which offers \
    the processor too";

/// What the validation layer said.
#[derive(Debug, Default)]
pub(crate) struct Messages(Mutex<Vec<String>>);

impl Messages {
    /// The first message so far; it stays.
    pub(crate) fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }
}

/// The loader and an instance.
pub(crate) struct Host {
    pub instance: Instance,
    messenger: Option<(ext::debug_utils::Instance, vk::DebugUtilsMessengerEXT)>,
    pub messages: Option<Arc<Messages>>,
    /// Whether the instance is ours to destroy.
    owned: bool,
    /// Dropped last: the functions above come from it.
    pub entry: Entry,
}

unsafe extern "system" fn message(
    _: vk::DebugUtilsMessageSeverityFlagsEXT,
    _: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: the layer passes valid data, and the pointer that the messenger was made with.
    let (data, messages) = unsafe { (&*data, &*user.cast::<Messages>()) };
    if !data.p_message.is_null() {
        // SAFETY: a string that ends with 0.
        let text = unsafe { CStr::from_ptr(data.p_message) }.to_string_lossy().into_owned();
        tracing::error!("Vulkan validation: {text}");
        messages.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
    vk::FALSE
}

impl Host {
    /// An instance of Vulkan 1.1 or newer, with validation if asked for.
    pub(crate) fn new(entry: Entry, validation: bool) -> Result<Self, String> {
        let failed = |what: &str, e: vk::Result| format!("{what}: {e}");
        // SAFETY: the entry is a loaded library.
        let version = unsafe { entry.try_enumerate_instance_version() };
        let version =
            version.map_err(|e| failed("vkEnumerateInstanceVersion", e))?.unwrap_or(vk::API_VERSION_1_0);
        if version < vk::API_VERSION_1_1 {
            return Err("the Vulkan loader is older than 1.1".into());
        }
        // SAFETY: as above.
        let offered = unsafe { entry.enumerate_instance_extension_properties(None) }
            .map_err(|e| failed("vkEnumerateInstanceExtensionProperties", e))?;
        let has = |name: &CStr| offered.iter().any(|p| p.extension_name_as_c_str() == Ok(name));
        let mut extensions = Vec::new();
        let mut flags = vk::InstanceCreateFlags::empty();
        if has(khr::portability_enumeration::NAME) {
            extensions.push(khr::portability_enumeration::NAME.as_ptr());
            flags |= vk::InstanceCreateFlags::ENUMERATE_PORTABILITY_KHR;
        }
        let mut layers = Vec::new();
        if validation {
            // SAFETY: as above.
            let known = unsafe { entry.enumerate_instance_layer_properties() }
                .map_err(|e| failed("vkEnumerateInstanceLayerProperties", e))?;
            if !known.iter().any(|l| l.layer_name_as_c_str() == Ok(VALIDATION)) {
                return Err(
                    "validation was asked for, but the layer VK_LAYER_KHRONOS_validation is not installed \
                     (Debian/Ubuntu: vulkan-validationlayers)"
                        .into(),
                );
            }
            layers.push(VALIDATION.as_ptr());
            extensions.push(ext::debug_utils::NAME.as_ptr());
        }
        let application = vk::ApplicationInfo::default()
            .application_name(c"halite")
            .api_version(version.min(vk::API_VERSION_1_3));
        let checks = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
        let mut features = vk::ValidationFeaturesEXT::default().enabled_validation_features(&checks);
        let mut create = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .flags(flags)
            .enabled_extension_names(&extensions)
            .enabled_layer_names(&layers);
        if validation {
            create = create.push_next(&mut features);
        }
        // SAFETY: the names and structures outlive the call.
        let instance = unsafe { entry.create_instance(&create, None) }.map_err(|e| match e {
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => NO_DRIVER.into(),
            e => failed("vkCreateInstance", e),
        })?;
        let mut host = Host { instance, messenger: None, messages: None, owned: true, entry };
        if validation {
            let messages = Arc::<Messages>::default();
            let utils = ext::debug_utils::Instance::new(&host.entry, &host.instance);
            let severity =
                vk::DebugUtilsMessageSeverityFlagsEXT::ERROR | vk::DebugUtilsMessageSeverityFlagsEXT::WARNING;
            let types = vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION
                | vk::DebugUtilsMessageTypeFlagsEXT::PERFORMANCE;
            let create = vk::DebugUtilsMessengerCreateInfoEXT::default()
                .message_severity(severity)
                .message_type(types)
                .pfn_user_callback(Some(message))
                .user_data(Arc::as_ptr(&messages).cast_mut().cast());
            // SAFETY: the messages live as long as the messenger: both belong to the host.
            let messenger = unsafe { utils.create_debug_utils_messenger(&create, None) }
                .map_err(|e| failed("vkCreateDebugUtilsMessengerEXT", e))?;
            host.messenger = Some((utils, messenger));
            host.messages = Some(messages);
        }
        Ok(host)
    }

    /// Takes an instance that someone else destroys.
    pub(crate) fn adopt(entry: Entry, instance: Instance) -> Self {
        Host { instance, messenger: None, messages: None, owned: false, entry }
    }

    pub(crate) fn physical_devices(&self) -> Vec<vk::PhysicalDevice> {
        // SAFETY: the instance is alive.
        let mut found = unsafe { self.instance.enumerate_physical_devices() }.unwrap_or_default();
        // SAFETY: the device is one of the instance's.
        found.retain(|&p| unsafe { self.instance.get_physical_device_properties(p) }.api_version >= vk::API_VERSION_1_1);
        found.retain(|&p| self.family(p).is_some());
        found
    }

    /// The queue family for compute: one without graphics if there is one.
    pub(crate) fn family(&self, physical: vk::PhysicalDevice) -> Option<u32> {
        // SAFETY: the device is one of the instance's.
        let families = unsafe { self.instance.get_physical_device_queue_family_properties(physical) };
        let computes = |f: &vk::QueueFamilyProperties| f.queue_flags.contains(vk::QueueFlags::COMPUTE);
        let alone = |f: &vk::QueueFamilyProperties| !f.queue_flags.contains(vk::QueueFlags::GRAPHICS);
        let at = families.iter().position(|f| computes(f) && alone(f));
        at.or_else(|| families.iter().position(computes)).map(|i| i as u32)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: nothing made from the instance is left: it is all kept together with the host.
        unsafe {
            if let Some((utils, messenger)) = &self.messenger {
                utils.destroy_debug_utils_messenger(*messenger, None);
            }
            if self.owned {
                self.instance.destroy_instance(None);
            }
        }
    }
}

/// A logical device with its queue.
pub(crate) struct Context {
    pub device: Device,
    pub physical: vk::PhysicalDevice,
    pub queue: vk::Queue,
    pub family: u32,
    pub selector: String,
    pub memory: vk::PhysicalDeviceMemoryProperties,
    pub uniform_alignment: u64,
    /// Nanoseconds of a tick of the device's clock; 0 without timestamps.
    pub timestamp_period: f64,
    pub timeline: bool,
    pub subgroup_size_control: bool,
    /// Whether kernels may use 64-bit integers.
    pub int64: bool,
    /// Whether the device is ours to destroy.
    owned: bool,
    pub host: Arc<Host>,
}

impl Context {
    /// Makes a logical device.
    pub(crate) fn new(host: Arc<Host>, physical: vk::PhysicalDevice, selector: &str) -> Result<Self> {
        let failed = |what: &str, e: vk::Result| Error::backend(selector, format!("{what}: {e}"));
        let family =
            host.family(physical).ok_or_else(|| Error::backend(selector, "no queue family for compute"))?;
        // SAFETY: the physical device is one of the host's.
        let (properties, offered) = unsafe {
            let offered = host.instance.enumerate_device_extension_properties(physical);
            (host.instance.get_physical_device_properties(physical), offered)
        };
        let offered = offered.map_err(|e| failed("vkEnumerateDeviceExtensionProperties", e))?;
        let has = |name: &CStr| offered.iter().any(|p| p.extension_name_as_c_str() == Ok(name));
        let mut extensions = Vec::new();
        let mut enable = |name: &'static CStr, core: u32| {
            if properties.api_version >= core {
                return true;
            }
            if has(name) {
                extensions.push(name.as_ptr());
            }
            has(name)
        };
        let may_timeline = enable(khr::timeline_semaphore::NAME, vk::API_VERSION_1_2);
        let may_control = enable(ext::subgroup_size_control::NAME, vk::API_VERSION_1_3);
        if has(khr::portability_subset::NAME) {
            extensions.push(khr::portability_subset::NAME.as_ptr());
        }
        let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default();
        let mut control = vk::PhysicalDeviceSubgroupSizeControlFeatures::default();
        let mut query = vk::PhysicalDeviceFeatures2::default();
        if may_timeline {
            query = query.push_next(&mut timeline);
        }
        if may_control {
            query = query.push_next(&mut control);
        }
        // SAFETY: the structures are those of extensions that the device has.
        unsafe { host.instance.get_physical_device_features2(physical, &mut query) };
        let has_int64 = query.features.shader_int64 == vk::TRUE;
        let has_timeline = timeline.timeline_semaphore == vk::TRUE;
        let has_control = info::controls_subgroups(&control);
        let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
        let mut control = vk::PhysicalDeviceSubgroupSizeControlFeatures::default()
            .subgroup_size_control(true)
            .compute_full_subgroups(true);
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(&[1.0])];
        let features = vk::PhysicalDeviceFeatures::default().shader_int64(has_int64);
        let mut create = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .enabled_features(&features);
        if has_timeline {
            create = create.push_next(&mut timeline);
        }
        if has_control {
            create = create.push_next(&mut control);
        }
        // SAFETY: what is asked for is what the device offers; the structures outlive the call.
        let device = unsafe { host.instance.create_device(physical, &create, None) }
            .map_err(|e| failed("vkCreateDevice", e))?;
        // SAFETY: the family has one queue.
        let queue = unsafe { device.get_device_queue(family, 0) };
        let mut context = Self::adopt(host, physical, device, queue, family, selector);
        (context.owned, context.timeline, context.subgroup_size_control) = (true, has_timeline, has_control);
        context.int64 = has_int64;
        Ok(context)
    }

    /// Takes a device that someone else destroys. Nothing is assumed of its features.
    pub(crate) fn adopt(
        host: Arc<Host>,
        physical: vk::PhysicalDevice,
        device: Device,
        queue: vk::Queue,
        family: u32,
        selector: &str,
    ) -> Self {
        // SAFETY: the physical device is one of the host's.
        let (properties, memory, families) = unsafe {
            (
                host.instance.get_physical_device_properties(physical),
                host.instance.get_physical_device_memory_properties(physical),
                host.instance.get_physical_device_queue_family_properties(physical),
            )
        };
        let stamps = families.get(family as usize).is_some_and(|f| f.timestamp_valid_bits >= 32);
        let period = f64::from(properties.limits.timestamp_period);
        Context {
            device,
            physical,
            queue,
            family,
            selector: selector.into(),
            memory,
            uniform_alignment: properties.limits.min_uniform_buffer_offset_alignment.max(16),
            timestamp_period: if stamps { period } else { 0.0 },
            timeline: false,
            subgroup_size_control: false,
            int64: false,
            owned: false,
            host,
        }
    }

    /// A driver's error as ours.
    pub(crate) fn error(&self, what: &str, e: vk::Result) -> Error {
        let device = self.selector.clone();
        let message = format!("{what}: {e}");
        match e {
            vk::Result::ERROR_DEVICE_LOST => Error::DeviceLost { device, message },
            _ => Error::Backend { device, message, source: Some(Arc::new(e)) },
        }
    }

    /// Fails with what the validation layer said, if anything.
    pub(crate) fn validated(&self) -> Result<()> {
        match self.host.messages.as_ref().and_then(|m| m.first()) {
            Some(text) => Err(Error::backend(&self.selector, format!("validation: {text}"))),
            None => Ok(()),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: whatever was made from the device holds the context, so nothing is left.
            unsafe { self.device.destroy_device(None) };
        }
    }
}
