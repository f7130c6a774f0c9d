//! Halite on a Vulkan device that the program has already: its instance, device, queue and a buffer go in,
//! operations run on them, and a raw buffer comes out.
//!
//! `cargo run --release --example embed_vulkan`

use halite::hal::{BinaryFn, DType, Device, DeviceOptions, Op, StreamId, TensorRef, UnaryFn};
use halite::vulkan::ash::{self, vk};
use halite::vulkan::{VulkanDevice, VulkanDriver};

type Error = Box<dyn std::error::Error>;

const N: usize = 1000;
const BYTES: u64 = 4 * N as u64;

fn main() -> Result<(), Error> {
    let Some(mut host) = Host::new()? else {
        println!("no Vulkan device here: skipped");
        return Ok(());
    };
    // A buffer of the program's own. It must serve for storage, and for transfers both ways.
    let (buffer, mapped) = host.buffer(BYTES)?;
    for i in 0..N {
        // SAFETY: N floats lie there, and the device isn't using them yet.
        unsafe { mapped.add(i).write(i as f32) };
    }

    // Halite takes the program's objects, and destroys none of them.
    let options = DeviceOptions::default();
    let (entry, instance, device) = (host.entry.clone(), host.instance.clone(), host.device.clone());
    // SAFETY: all belong together and outlive the engine: `host` was declared before it.
    let driver = unsafe {
        VulkanDriver::from_raw(entry, instance, host.physical, device, host.queue, host.family, &options)
    }?;
    let engine = VulkanDevice::new(driver, &options)?;

    // In: a raw handle becomes a buffer like any other.
    // SAFETY: it belongs to the device, outlives the engine, and has as many bytes.
    let imported = unsafe { engine.import(engine.driver().import_buffer(buffer), BYTES) }?;
    let result = engine.allocate(BYTES, 0)?;
    let [x, y] = [&imported, &result].map(|b| TensorRef::new(b, DType::F32, &[N]));

    // y = x², then x = x + y.
    let stream = StreamId(0);
    let square = Op::unary(UnaryFn::Square, x.clone(), y.clone());
    engine.submit(stream, &[square, Op::binary(BinaryFn::Add, x.clone(), y, x)])?;
    let sums: Vec<f32> = engine.download(stream, &imported, 0, BYTES)?.wait_as()?;
    assert!(sums.iter().enumerate().all(|(i, &s)| s == (i * i + i) as f32));

    // Out: the raw handle of a buffer of Halite's, which the program's own commands read. Small buffers share
    // a vk::Buffer, so there is an offset.
    engine.synchronize(stream)?;
    let region = engine.export(&result)?.remove(0);
    host.copy(region.memory.raw(), region.offset, buffer)?;
    for i in 0..N {
        // SAFETY: as above; the device has ended.
        assert_eq!(unsafe { mapped.add(i).read() }, (i * i) as f32);
    }
    println!("{}: the program's buffer went through Halite and back", engine.info().name);
    Ok(())
}

/// What a program with Vulkan has.
struct Host {
    entry: ash::Entry,
    instance: ash::Instance,
    physical: vk::PhysicalDevice,
    device: ash::Device,
    queue: vk::Queue,
    family: u32,
    buffers: Vec<(vk::Buffer, vk::DeviceMemory)>,
}

impl Host {
    /// The first device that computes, if there is any.
    fn new() -> Result<Option<Host>, Error> {
        // SAFETY: the system's loader; what is passed to it below is valid.
        unsafe {
            let Ok(entry) = ash::Entry::load() else { return Ok(None) };
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let Ok(instance) = entry.create_instance(&create, None) else { return Ok(None) };
            let found = instance.enumerate_physical_devices()?.into_iter().find_map(|physical| {
                let families = instance.get_physical_device_queue_family_properties(physical);
                let computes =
                    |f: &vk::QueueFamilyProperties| f.queue_flags.contains(vk::QueueFlags::COMPUTE);
                Some((physical, families.iter().position(computes)? as u32))
            });
            let Some((physical, family)) = found else {
                instance.destroy_instance(None);
                return Ok(None);
            };
            let queues =
                [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(&[1.0])];
            let create = vk::DeviceCreateInfo::default().queue_create_infos(&queues);
            let device = instance.create_device(physical, &create, None)?;
            let queue = device.get_device_queue(family, 0);
            Ok(Some(Host { entry, instance, physical, device, queue, family, buffers: Vec::new() }))
        }
    }

    /// A buffer that the host sees too, and where.
    fn buffer(&mut self, bytes: u64) -> Result<(vk::Buffer, *mut f32), Error> {
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        // SAFETY: the device is alive, and the memory is of a type that the buffer can have.
        unsafe {
            let create = vk::BufferCreateInfo::default().size(bytes).usage(usage);
            let buffer = self.device.create_buffer(&create, None)?;
            let needs = self.device.get_buffer_memory_requirements(buffer);
            let wanted = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
            let types = self.instance.get_physical_device_memory_properties(self.physical);
            let fits = |i: &u32| {
                let flags = types.memory_types[*i as usize].property_flags;
                needs.memory_type_bits >> i & 1 == 1 && flags.contains(wanted)
            };
            let kind = (0..types.memory_type_count).find(fits).ok_or("no memory that the host sees")?;
            let allocate =
                vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(kind);
            let memory = self.device.allocate_memory(&allocate, None)?;
            self.buffers.push((buffer, memory));
            self.device.bind_buffer_memory(buffer, memory, 0)?;
            let mapped = self.device.map_memory(memory, 0, bytes, vk::MemoryMapFlags::empty())?;
            Ok((buffer, mapped.cast()))
        }
    }

    /// Copies a part of a buffer to one that the host reads afterwards, and waits.
    fn copy(&self, from: vk::Buffer, offset: u64, to: vk::Buffer) -> Result<(), Error> {
        let (device, stages) = (&self.device, vk::PipelineStageFlags::ALL_COMMANDS);
        let everything = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)];
        let for_host = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
            .dst_access_mask(vk::AccessFlags::HOST_READ)];
        let (host, none) = (vk::PipelineStageFlags::HOST, vk::DependencyFlags::empty());
        // SAFETY: both buffers are alive until the queue is idle.
        unsafe {
            let create = vk::CommandPoolCreateInfo::default().queue_family_index(self.family);
            let pool = device.create_command_pool(&create, None)?;
            let allocate =
                vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
            let commands = device.allocate_command_buffers(&allocate)?;
            device.begin_command_buffer(commands[0], &vk::CommandBufferBeginInfo::default())?;
            device.cmd_pipeline_barrier(commands[0], stages, stages, none, &everything, &[], &[]);
            let region = vk::BufferCopy::default().src_offset(offset).size(BYTES);
            device.cmd_copy_buffer(commands[0], from, to, &[region]);
            device.cmd_pipeline_barrier(commands[0], stages, host, none, &for_host, &[], &[]);
            device.end_command_buffer(commands[0])?;
            let submit = vk::SubmitInfo::default().command_buffers(&commands);
            device.queue_submit(self.queue, &[submit], vk::Fence::null())?;
            device.queue_wait_idle(self.queue)?;
            device.destroy_command_pool(pool, None);
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: the program is done with them; the engine, declared later, is gone.
        unsafe {
            for (buffer, memory) in self.buffers.drain(..) {
                self.device.destroy_buffer(buffer, None);
                self.device.free_memory(memory, None);
            }
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
