//! What a real GPU's compiler makes of the kernels: registers, spills, vector instructions and loads, held to budgets.
//!
//! No GPU is needed. Mesa's driver for AMD cards, RADV, compiles for any card that `RADV_FORCE_FAMILY` names, and Vulkan's
//! `VK_KHR_pipeline_executable_properties` returns its statistics and machine code. Each kernel is assembled by `fanlight` itself and
//! translated by naga with the options of wgpu's Vulkan backend. Instructions are counted in the loop that does the work, so what is
//! counted is the code of a turn, not a time: caches and memory are not seen here.
#![allow(unsafe_code, reason = "every call of the Vulkan API is unsafe")]

use std::ffi::{CStr, CString};
use std::process::ExitCode;

use ash::vk;
use assembly::loops;
use fanlight::gpu::shader::assemble;
use fanlight::gpu::{Kernel, Variant, WeightFormat};
use fanlight::ops;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

#[path = "../assembly.rs"]
mod assembly;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The card that the budgets are for (Navi 31, RDNA 3) by the names that newer and older versions of Mesa know.
const FAMILIES: [&str; 2] = ["navi31", "gfx1100"];

/// Vector instructions and loads that the matrix-vector kernel may take for each weight.
const MATVEC: [(&str, f64, f64); 15] = [
    ("f32", 1.6, 0.32),
    ("f16", 2.2, 0.32),
    ("bf16", 2.6, 0.20),
    ("q8", 3.6, 0.20),
    ("q4", 3.3, 0.20),
    ("q5", 4.3, 0.20),
    ("q2_k", 4.2, 0.20),
    ("q3_k", 6.0, 0.20),
    ("q4_k", 3.6, 0.20),
    ("q5_k", 4.6, 0.20),
    ("q6_k", 4.3, 0.20),
    ("iq4_nl", 8.2, 0.20),
    ("iq4_xs", 8.4, 0.20),
    ("g4", 3.3, 0.20),
    ("g8", 3.6, 0.20),
];

/// The part of the tiled kernel's vector instructions that must be multiply-adds of the product itself. (Tables cost more to decode.)
fn least_share(layout: &str) -> f64 {
    if layout.starts_with("iq4") { 0.80 } else { 0.85 }
}

/// The variable by which RADV takes a card's name.
const FAMILY: &str = "RADV_FORCE_FAMILY";

fn main() -> ExitCode {
    let result = match std::env::var_os(FAMILY) {
        None => with_a_driver(),
        Some(_) if std::env::args().any(|arg| arg == "--probe") => Compiler::open().map(|_| Vec::new()),
        Some(_) => run(),
    };
    match result {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("over budget: {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("shaderstats: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again where the driver is found and knows the card. A driver ends the program if it does not know a name, so each
/// name is tried in a process of its own.
fn with_a_driver() -> Outcome<Vec<String>> {
    let is_radv = |name: &str| name.starts_with("radeon_icd") && name.ends_with(".json");
    let files = std::fs::read_dir("/usr/share/vulkan/icd.d").into_iter().flatten().flatten().map(|file| file.path());
    let driver = files.into_iter().find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_radv));
    let Some(driver) = driver else {
        println!("shaderstats: NOT RUN, since Mesa's RADV driver is not here (Debian: mesa-vulkan-drivers)");
        return Ok(Vec::new());
    };
    let again = |family| {
        let mut again = std::process::Command::new(std::env::current_exe()?);
        again.env(FAMILY, family).env("VK_DRIVER_FILES", &driver).env("VK_ICD_FILENAMES", &driver);
        Ok::<_, std::io::Error>(again)
    };
    for family in FAMILIES {
        if again(family)?.arg("--probe").stderr(std::process::Stdio::null()).status()?.success() {
            // What is over its budget is said there.
            let passed = again(family)?.status()?.success();
            return if passed { Ok(Vec::new()) } else { Err("failed".into()) };
        }
    }
    Err(format!("{} knows none of {}", driver.display(), FAMILIES.join(", ")).into())
}

/// Prints a line for each kernel and returns what is over its budget.
fn run() -> Outcome<Vec<String>> {
    let compiler = Compiler::open()?;
    println!("{}", compiler.device);
    let mut failures = Vec::new();
    for kernel in ops::KERNELS {
        let formats: Vec<Option<WeightFormat>> = match kernel.weight {
            true => WeightFormat::all().map(Some).collect(),
            false => vec![None],
        };
        for weight in formats {
            // Other variants of a kernel differ in what follows its loop.
            let variant = Variant { weight, overrides: kernel.variants[0].to_vec() };
            let compiled = compiler.compile(kernel, &variant)?;
            let name = format!("{}{}", kernel.name, weight.map_or(String::new(), |w| format!(" {}", label(w))));
            let loops = loops(&compiled.assembly);
            let mut over = |what: &str, found: f64, limit: f64| {
                if found > limit {
                    failures.push(format!("{name}: {found:.2} {what}, of at most {limit:.2}"));
                }
            };
            over("spilled registers", compiled.statistic("Spilled VGPRs") + compiled.statistic("Spilled SGPRs"), 0.0);
            let mut line = String::new();
            match (kernel.name, weight) {
                ("matvec", Some(weight)) => {
                    let hot = loops.iter().max_by_key(|l| l.vector).ok_or("matvec has no loop")?;
                    let weights = f64::from(4 * 8 * parts(&assemble(kernel, Some(weight)))?);
                    let (vector, loads) = (f64::from(hot.vector) / weights, f64::from(hot.loads) / weights);
                    let row = MATVEC.iter().find(|row| row.0 == weight.layout().name());
                    let (_, most_vector, most_loads) = row.ok_or("a format without a budget")?;
                    over("vector instructions a weight", vector, *most_vector);
                    over("loads a weight", loads, *most_loads);
                    line = format!("{vector:.2} vector instructions and {loads:.2} loads a weight");
                }
                ("matmul", Some(weight)) => {
                    // The inner loop runs four times in each turn of the outer one.
                    let inner = loops.iter().max_by_key(|l| l.fma).ok_or("matmul has no loop")?;
                    let outer = loops.iter().filter(|l| l.contains(inner)).max_by_key(|l| l.vector);
                    let all = 4 * inner.vector + outer.ok_or("matmul has no outer loop")?.vector;
                    let share = f64::from(4 * inner.fma) / f64::from(all);
                    over(
                        "of vector instructions are not the product's",
                        1.0 - share,
                        1.0 - least_share(weight.layout().name()),
                    );
                    line = format!("{:.0} % of vector instructions are the product's multiply-adds", 100.0 * share);
                }
                _ => {}
            }
            println!(
                "{name:24} {:4} registers, {:2} waves, {:5} instructions  {line}",
                compiled.statistic("VGPRs"),
                compiled.statistic("Subgroups per SIMD"),
                compiled.statistic("Instructions"),
            );
        }
    }
    Ok(failures)
}

fn label(weight: WeightFormat) -> &'static str {
    match weight {
        WeightFormat::NativeF16 => "f16 native",
        WeightFormat::Plain(layout) => layout.name(),
    }
}

/// How many times eight elements a unit of this module's weight fragment has.
fn parts(source: &str) -> Outcome<u32> {
    let (_, rest) = source.split_once("const PARTS = ").ok_or("the fragment has no PARTS")?;
    Ok(rest.split_once('u').ok_or("PARTS is no u32")?.0.parse()?)
}

struct Compiled {
    statistics: Vec<(String, f64)>,
    assembly: String,
}

impl Compiled {
    fn statistic(&self, name: &str) -> f64 {
        self.statistics.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, value)| *value)
    }
}

/// A Vulkan device without a card behind it, which compiles and never runs.
struct Compiler {
    _entry: ash::Entry,
    _instance: ash::Instance,
    device: String,
    raw: ash::Device,
    executable: ash::khr::pipeline_executable_properties::Device,
}

impl Compiler {
    fn open() -> Outcome<Compiler> {
        // SAFETY: plain calls, with structures that live until each call returns.
        unsafe {
            let entry = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&create, None)?;
            let physical = *instance.enumerate_physical_devices()?.first().ok_or("the driver has no device")?;
            let properties = instance.get_physical_device_properties(physical);
            let device = properties.device_name_as_c_str()?.to_string_lossy().into_owned();
            let mut v11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut v12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut statistics = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut v11)
                .push_next(&mut v12)
                .push_next(&mut v13)
                .push_next(&mut statistics)
                .push_next(&mut robust);
            instance.get_physical_device_features2(physical, &mut features);
            let extensions =
                [ash::khr::pipeline_executable_properties::NAME.as_ptr(), ash::ext::robustness2::NAME.as_ptr()];
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut features);
            let raw = instance.create_device(physical, &create, None)?;
            let executable = ash::khr::pipeline_executable_properties::Device::new(&instance, &raw);
            Ok(Compiler { _entry: entry, _instance: instance, device, raw, executable })
        }
    }

    fn compile(&self, kernel: &Kernel, variant: &Variant) -> Outcome<Compiled> {
        let (code, entry) = translate(kernel, variant)?;
        // SAFETY: plain calls, with structures that live until each call returns. What is created is destroyed with the process.
        unsafe {
            let device = &self.raw;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&code), None)?;
            let bindings: Vec<_> = (0..=kernel.storage.len() as u32)
                .map(|binding| {
                    let kind = match binding {
                        0 => vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
                        _ => vk::DescriptorType::STORAGE_BUFFER,
                    };
                    let slot = vk::DescriptorSetLayoutBinding::default().binding(binding).descriptor_type(kind);
                    slot.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let sets = [device.create_descriptor_set_layout(
                &vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings),
                None,
            )?];
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)?;
            let entry = CString::new(entry)?;
            let stage = vk::PipelineShaderStageCreateInfo::default();
            let stage = stage.stage(vk::ShaderStageFlags::COMPUTE).module(module).name(&entry);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let create = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let pipeline = made.map_err(|(_, error)| error)?[0];
            let at = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
            let mut statistics = Vec::new();
            for statistic in self.executable.get_pipeline_executable_statistics(&at)? {
                let name = CStr::from_ptr(statistic.name.as_ptr()).to_string_lossy().into_owned();
                let value = match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::UINT64 => statistic.value.u64 as f64,
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64 as f64,
                    _ => statistic.value.f64,
                };
                statistics.push((name, value));
            }
            Ok(Compiled { statistics, assembly: self.assembly(&at)? })
        }
    }

    /// The machine code as text.
    unsafe fn assembly(&self, at: &vk::PipelineExecutableInfoKHR<'_>) -> Outcome<String> {
        // SAFETY: the buffers have the sizes that the first calls return, and outlive the last one.
        unsafe {
            let get = self.executable.fp().get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            get(self.raw.handle(), at, &mut count, std::ptr::null_mut()).result()?;
            let mut texts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(self.raw.handle(), at, &mut count, texts.as_mut_ptr()).result()?;
            let mut buffers: Vec<Vec<u8>> = texts.iter().map(|text| vec![0; text.data_size + 1]).collect();
            for (text, buffer) in texts.iter_mut().zip(&mut buffers) {
                text.p_data = buffer.as_mut_ptr().cast();
            }
            get(self.raw.handle(), at, &mut count, texts.as_mut_ptr()).result()?;
            let of_machine = |text: &vk::PipelineExecutableInternalRepresentationKHR<'_>| {
                CStr::from_ptr(text.name.as_ptr()).to_string_lossy().contains("ssembly")
            };
            let found = texts.iter().position(of_machine).ok_or("the driver gives no assembly")?;
            Ok(CStr::from_bytes_until_nul(&buffers[found])?.to_string_lossy().into_owned())
        }
    }
}

/// SPIR-V with the checks that wgpu asks for on a Vulkan device with robustBufferAccess2, and the entry point's name.
fn translate(kernel: &Kernel, variant: &Variant) -> Outcome<(Vec<u32>, String)> {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let source = assemble(kernel, variant.weight);
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module)?;
    let constants = variant.overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let entry = Some((naga::ShaderStage::Compute, kernel.entry));
    let (module, info) = naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)?;
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: true,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: kernel.entry.into() };
    Ok((spv::write_vec(&module, &info, &options, Some(&pipeline))?, kernel.entry.to_owned()))
}
