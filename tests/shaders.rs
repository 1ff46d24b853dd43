//! Every shader, assembled exactly as the device gets it, against naga, the op beside it and the rules of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use fanlight::dtype::CacheFormat;
use fanlight::gpu::shader::assemble;
use fanlight::gpu::{Access, Kernel, WeightFormat};
use fanlight::ops::KERNELS;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn formats(kernel: &Kernel) -> Vec<Option<WeightFormat>> {
    if kernel.weight { WeightFormat::all().map(Some).collect() } else { vec![None] }
}

/// A module of `kernel` as naga sees it. Nothing beyond WebGPU's core is enabled, and f16 only where asked for.
fn module(kernel: &Kernel, weight: Option<WeightFormat>) -> (Module, ModuleInfo) {
    let source = assemble(kernel, weight);
    let f16 = weight == Some(WeightFormat::NativeF16);
    assert_eq!(source.starts_with("enable f16;"), f16, "{} {weight:?}", kernel.name);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{} {weight:?}: {}", kernel.name, e.emit_to_string(&source)));
    // `unpack2x16float` is core WGSL; naga counts it among the capabilities.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, f16);
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{} {weight:?}: {}", kernel.name, e.emit_to_string(&source)));
    (module, info)
}

fn every_module(mut f: impl FnMut(&'static Kernel, Option<WeightFormat>, &Module, &ModuleInfo)) {
    for kernel in KERNELS {
        for weight in formats(kernel) {
            let (module, info) = module(kernel, weight);
            f(kernel, weight, &module, &info);
        }
    }
}

/// The base name of a kernel's file and of its twins.
fn base(kernel: &Kernel) -> &'static str {
    kernel.name.split('/').next().unwrap_or(kernel.name)
}

#[test]
fn every_variant_resolves_and_keeps_within_the_limits_of_webgpu() {
    let mut pipelines = 0;
    every_module(|kernel, weight, module, info| {
        assert!(!kernel.variants.is_empty(), "{} has no variant", kernel.name);
        for &overrides in kernel.variants {
            let name = format!("{} {weight:?} {overrides:?}", kernel.name);
            let constants = overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
            let entry = Some((ShaderStage::Compute, kernel.entry));
            let (module, _) = naga::back::pipeline_constants::process_overrides(module, info, entry, &constants)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let [entry] = &module.entry_points[..] else { panic!("{name}: no entry point {}", kernel.entry) };
            let [x, y, z] = entry.workgroup_size;
            assert!(x * y * z <= 256 && x <= 256 && y <= 256 && z <= 64, "{name}: {x} x {y} x {z} threads");
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).unwrap();
            let shared: u32 = module
                .global_variables
                .iter()
                .filter(|(_, var)| var.space == AddressSpace::WorkGroup)
                .map(|(_, var)| layouter[var.ty].size.next_multiple_of(16))
                .sum();
            assert!(shared <= 16384, "{name}: {shared} bytes of workgroup memory");
            pipelines += 1;
        }
    });
    assert!(pipelines > 50, "only {pipelines} pipelines were looked at");
}

/// Every `override` that a variant names exists: WebGPU refuses others.
#[test]
fn variants_name_overrides_that_exist() {
    every_module(|kernel, weight, module, _| {
        let known: Vec<_> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
        for &(name, _) in kernel.variants.iter().copied().flatten() {
            assert!(known.iter().any(|k| k == name), "{} {weight:?}: no override {name} among {known:?}", kernel.name);
        }
    });
}

#[test]
fn bindings_are_what_the_op_says() {
    every_module(|kernel, weight, module, _| {
        let name = format!("{} {weight:?}", kernel.name);
        let mut found = BTreeMap::new();
        for (_, var) in module.global_variables.iter() {
            let Some(binding) = &var.binding else { continue };
            assert_eq!(binding.group, 0, "{name}");
            assert!(found.insert(binding.binding, var).is_none(), "{name}: two bindings {}", binding.binding);
        }
        assert_eq!(found.len(), kernel.storage.len() + 1, "{name}");
        assert!(kernel.storage.len() <= 8, "{name}: more storage buffers than WebGPU promises");
        assert_eq!(found[&0].space, AddressSpace::Uniform, "{name}");
        for (at, access) in (1..).zip(kernel.storage) {
            let want = match access {
                Access::Read => StorageAccess::LOAD,
                Access::Write => StorageAccess::LOAD | StorageAccess::STORE,
            };
            assert_eq!(found[&at].space, AddressSpace::Storage { access: want }, "{name} binding {at}");
        }
        if kernel.weight {
            assert_eq!(found[&1].name.as_deref(), Some("weight"), "{name}");
        }
    });
}

/// The uniform block and its `repr(C)` mirror: size, and every field's name, place and type.
#[test]
fn params_mirror_their_uniform_block() {
    every_module(|kernel, weight, module, _| {
        let name = format!("{} {weight:?}", kernel.name);
        let params = module.global_variables.iter().find(|(_, v)| v.space == AddressSpace::Uniform).unwrap().1;
        let TypeInner::Struct { members, span } = &module.types[params.ty].inner else { panic!("{name}: no struct") };
        assert_eq!(*span as usize, kernel.params_bytes, "{name}");
        let mut fields = Vec::new();
        for (i, member) in members.iter().enumerate() {
            assert_eq!(member.offset as usize, 4 * i, "{name}: {:?}", member.name);
            let TypeInner::Scalar(scalar) = module.types[member.ty].inner else { panic!("{name}: no scalar") };
            let kind = match (scalar.kind, scalar.width) {
                (ScalarKind::Uint, 4) => "u32",
                (ScalarKind::Float, 4) => "f32",
                other => panic!("{name}: {other:?}"),
            };
            fields.push((member.name.clone().unwrap(), kind.to_owned()));
        }
        fields.retain(|(field, _)| !field.starts_with("pad"));
        assert_eq!(mirror(kernel), fields, "{name}");
    });
}

/// The fields of the Rust struct, without padding, read from the op's source.
fn mirror(kernel: &Kernel) -> Vec<(String, String)> {
    let own = text(&format!("src/ops/{}.rs", base(kernel)));
    let source = if own.contains("struct Params {") { own } else { text("src/ops/mod.rs") };
    let start = source.find("Params {").unwrap_or_else(|| panic!("{}: no Params", kernel.name));
    let body = source[start..].split_once('{').unwrap().1.split_once('}').unwrap().0;
    let fields = body.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
    fields.filter(|(name, _)| !name.starts_with("pad")).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// `// parts: weight/*, shared/grid, embed` opens `embed.wgsl` and is what `assemble` puts together.
#[test]
fn the_first_comment_lists_the_parts() {
    for kernel in KERNELS {
        let path = format!("shaders/{}.wgsl", base(kernel));
        assert_eq!(text(&path), kernel.source, "{path} is not the source of {}", kernel.name);
        let mut parts = Vec::new();
        if kernel.weight {
            parts.push("weight/*".to_owned());
        }
        for part in kernel.shared {
            let file = |folder| wgsl_files(folder).into_iter().find(|(_, text)| text == part);
            parts.push(match file("shaders/shared") {
                Some((name, _)) => format!("shared/{name}"),
                None if file("shaders/cache").is_some() => "cache/*".to_owned(),
                None => panic!("{}: a shared part that is no file", kernel.name),
            });
        }
        parts.push(base(kernel).to_owned());
        let listed = kernel.source.lines().next().and_then(|line| line.strip_prefix("// parts: "));
        assert_eq!(listed, Some(&*parts.join(", ")), "{path}");
        let op = text(&format!("src/ops/{}.rs", base(kernel)));
        assert!(op.contains(&format!("/// Parts: {}.", parts.join(", "))), "src/ops/{}.rs lists others", base(kernel));
    }
}

fn wgsl_files(folder: &str) -> Vec<(String, String)> {
    names(folder, "wgsl").into_iter().map(|name| (name.clone(), text(&format!("{folder}/{name}.wgsl")))).collect()
}

/// Base names of the files in a folder that end so.
fn names(folder: &str, ending: &str) -> BTreeSet<String> {
    let list = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let path = |entry: Result<fs::DirEntry, _>| entry.unwrap().path();
    let matching = list.map(path).filter(|path| path.extension().is_some_and(|e| e == ending));
    matching.map(|path| stem(&path)).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// shaders/x.wgsl, src/ops/x.rs, tests/reference/x.rs: each kernel has all three, and there are no others.
#[test]
fn every_kernel_has_an_op_and_a_twin() {
    let kernels: BTreeSet<String> = KERNELS.iter().map(|kernel| base(kernel).to_owned()).collect();
    let unique: BTreeSet<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
    assert_eq!(unique.len(), KERNELS.len(), "names are the pipeline cache's key");
    let but = |mut names: BTreeSet<String>, others: &[&str]| {
        names.retain(|name| !others.contains(&&**name));
        names
    };
    assert_eq!(names("shaders", "wgsl"), kernels);
    assert_eq!(but(names("src/ops", "rs"), &["mod"]), kernels);
    assert_eq!(but(names("tests/reference", "rs"), &["mod", "weights"]), kernels);
    // Formats and fragments are the same set too.
    assert_eq!(names("shaders/weight", "wgsl").len(), WeightFormat::all().count());
    assert_eq!(names("shaders/cache", "wgsl"), CacheFormat::ALL.map(|format| format.name().to_owned()).into());
}

/// Twins define what is right, so they know nothing of the crate.
#[test]
fn twins_import_nothing_from_the_crate() {
    for name in names("tests/reference", "rs") {
        let source = text(&format!("tests/reference/{name}.rs"));
        for word in ["fanlight", "engine", "crate::", "super::super"] {
            assert!(!source.contains(word), "tests/reference/{name}.rs names {word}");
        }
    }
}

/// Browsers refuse reserved words as identifiers; a native run would not notice all of them.
#[test]
fn no_identifier_is_a_reserved_word() {
    let reserved: BTreeSet<&str> = RESERVED.split_whitespace().collect();
    for folder in ["shaders", "shaders/shared", "shaders/weight", "shaders/cache"] {
        for (name, source) in wgsl_files(folder) {
            for (number, line) in source.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in code.split(|c: char| !c.is_alphanumeric() && c != '_') {
                    let place = format!("{folder}/{name}.wgsl:{}: {word}", number + 1);
                    assert!(!reserved.contains(word), "{place} is reserved");
                    assert!(!word.starts_with("__") && word != "_", "{place} is no identifier");
                }
            }
        }
    }
}

/// WGSL, section 16.2 (reserved words), as of the 2025 candidate recommendation.
const RESERVED: &str = "
    NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class
    co_await co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval
    constexpr constinit crate debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export
    extends extern external fallthrough filter final finally friend from fxgroup get goto groupshared highp impl
    implements import inline instanceof interface layout lowp macro macro_rules match mediump meta mod module move mut
    mutable namespace new nil noexcept noinline nointerpolation non_coherent noncoherent noperspective null nullptr of
    operator package packoffset partition pass patch pixelfragment precise precision premerge priv protected pub public
    readonly ref regardless register reinterpret_cast require resource restrict self set shared sizeof smooth snorm
    static static_assert static_cast std subroutine super target template this thread_local throw trait try type typedef
    typeid typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with writeonly
    yield";
