//! Every kernel against its twin on the default adapter, and the recorder and executor around them.
//!
//! No adapter is a failure.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks and takes the time")]

use fanlight as engine;
use fanlight::dtype::{CacheFormat, Layout};
use fanlight::gpu::{Element, Gpu, GpuOptions, Recorder, Tensor, Variant, WeightFormat};
use fanlight::ops::attention::{Mask, Segment};
use fanlight::ops::rope::{HeadNorm, Heads, RopeTarget};
use fanlight::ops::{LinearOptions, Rows, Weight, WeightShard};
use fanlight::{Error, Result, ops};
use pollster::block_on;

mod kernel_table;

fn open(options: &GpuOptions) -> Gpu {
    block_on(Gpu::open(options)).expect("a GPU adapter (Mesa lavapipe will do)")
}

/// Runs the whole table and fails with all that failed. Returns which pipelines ran.
fn run_table(gpu: &Gpu) -> Vec<(&'static str, Variant)> {
    println!("{:?}", gpu.caps());
    let mut launched = Vec::new();
    let mut failures = Vec::new();
    for case in kernel_table::TABLE {
        let start = std::time::Instant::now();
        let report = block_on(case.run(gpu)).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        println!("{:45} {:9} values, worst {:.3} {:.1?}", case.name, report.values, report.worst, start.elapsed());
        if !report.failures.is_empty() {
            let n = report.failures.len();
            failures.push(format!(
                "{}: {n} failures, such as\n  {}",
                case.name,
                report.failures[..n.min(4)].join("\n  ")
            ));
        }
        assert!(report.values > 0, "{} compared nothing", case.name);
        launched.extend(report.launched);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    launched
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    let gpu = open(&GpuOptions::default());
    let launched = run_table(&gpu);
    // Whatever an op declares has run: every variant, and every format that this device reads.
    for kernel in ops::KERNELS {
        let runs = || launched.iter().filter(|(name, _)| *name == kernel.name).map(|(_, variant)| variant);
        for overrides in kernel.variants {
            assert!(runs().any(|v| v.overrides == *overrides), "{} {overrides:?} did not run", kernel.name);
        }
        for format in WeightFormat::all().filter(|_| kernel.weight) {
            let readable = gpu.caps().shader_f16 || format != WeightFormat::NativeF16;
            assert_eq!(runs().any(|v| v.weight == Some(format)), readable, "{} {format:?}", kernel.name);
        }
    }
}

#[test]
fn every_kernel_agrees_with_its_twin_without_f16() {
    let gpu = open(&GpuOptions { no_f16: true, ..Default::default() });
    assert!(!gpu.caps().shader_f16);
    let launched = run_table(&gpu);
    assert!(launched.iter().all(|(_, variant)| variant.weight != Some(WeightFormat::NativeF16)));
}

/// The limit cuts the largest weight of the table into three pieces (two at 16 bits).
#[test]
fn every_kernel_agrees_with_its_twin_under_a_small_binding_limit() {
    let gpu = open(&GpuOptions { max_binding: Some(3_200_000), ..Default::default() });
    assert_eq!(gpu.caps().max_binding, 3_200_000);
    run_table(&gpu);
}

// The recorder and the executor, with gather_rows as the plainest kernel: copying rows.

fn copy(rec: &mut Recorder, from: &Tensor, to: &Tensor) {
    let rows: Vec<u32> = (0..from.rows as u32).collect();
    let index = rec.upload_u32("index", from.rows, &rows).unwrap();
    ops::gather_rows::gather_rows(rec, from, &index, to).unwrap();
}

fn persistent(gpu: &Gpu, rows: usize, cols: usize) -> Tensor {
    gpu.persistent("test", rows, cols, Element::F32).unwrap()
}

fn read(gpu: &Gpu, tensor: &Tensor) -> Vec<f32> {
    block_on(gpu.read_f32(tensor, 0, tensor.len())).unwrap()
}

fn ramp(start: f32, count: usize) -> Vec<f32> {
    (0..count).map(|i| start + i as f32).collect()
}

#[test]
fn scratch_that_is_dropped_while_recording_serves_again_without_harm() {
    let gpu = open(&GpuOptions::default());
    let mut rec = Recorder::new(&gpu);
    let mut results = Vec::new();
    for turn in 0..20 {
        let from = rec.upload_f32("from", 16, &ramp(1000.0 * turn as f32, 64)).unwrap();
        let scratch = rec.scratch("scratch", 16, 4).unwrap();
        copy(&mut rec, &from, &scratch);
        drop(from);
        let result = persistent(&gpu, 16, 4);
        copy(&mut rec, &scratch, &result);
        results.push(result);
    }
    gpu.execute(rec.finish()).unwrap();
    for (turn, result) in results.iter().enumerate() {
        assert_eq!(read(&gpu, result), ramp(1000.0 * turn as f32, 64), "turn {turn}");
    }
}

#[test]
fn scratch_that_is_kept_is_not_given_to_anyone_else() {
    let gpu = open(&GpuOptions::default());
    let mut rec = Recorder::new(&gpu);
    let kept: Vec<Tensor> = (0..8)
        .map(|turn| {
            let from = rec.upload_f32("from", 16, &ramp(100.0 * turn as f32, 64)).unwrap();
            let scratch = rec.scratch("scratch", 16, 4).unwrap();
            copy(&mut rec, &from, &scratch);
            scratch
        })
        .collect();
    gpu.execute(rec.finish()).unwrap();
    for (turn, scratch) in kept.iter().enumerate() {
        assert_eq!(read(&gpu, scratch), ramp(100.0 * turn as f32, 64), "turn {turn}");
    }
}

/// `write_buffer` runs before the whole submission: an upload must not land where an earlier step still reads.
#[test]
fn uploads_of_one_recording_do_not_share_memory() {
    let gpu = open(&GpuOptions::default());
    let to = persistent(&gpu, 4, 4);
    for pass in 0..3 {
        let mut rec = Recorder::new(&gpu);
        for row in 0..4u32 {
            // Dropped at once, before the next upload of the same size.
            let from = rec.upload_f32("from", 1, &ramp((100 * pass + 10 * row) as f32, 4)).unwrap();
            let mut index = [ops::gather_rows::KEEP; 4];
            index[row as usize] = 0;
            let index = rec.upload_u32("index", 4, &index).unwrap();
            ops::gather_rows::gather_rows(&mut rec, &from, &index, &to).unwrap();
        }
        gpu.execute(rec.finish()).unwrap();
        let want: Vec<f32> = (0..4).flat_map(|row| ramp((100 * pass + 10 * row) as f32, 4)).collect();
        assert_eq!(read(&gpu, &to), want, "pass {pass}");
    }
}

#[test]
fn recordings_made_side_by_side_do_not_disturb_each_other() {
    let gpu = open(&GpuOptions::default());
    let (a, b) = (persistent(&gpu, 2, 4), persistent(&gpu, 2, 4));
    let (mut first, mut second) = (Recorder::new(&gpu), Recorder::new(&gpu));
    let from = first.upload_f32("from", 2, &ramp(1.0, 8)).unwrap();
    copy(&mut first, &from, &a);
    let from = second.upload_f32("from", 2, &ramp(50.0, 8)).unwrap();
    copy(&mut second, &from, &b);
    let (first, second) = (first.finish(), second.finish());
    assert_eq!(first.dispatches.len(), 1);
    gpu.execute(second).unwrap();
    gpu.execute(first).unwrap();
    assert_eq!((read(&gpu, &a), read(&gpu, &b)), (ramp(1.0, 8), ramp(50.0, 8)));
}

/// Every block of parameters in its own place, also when the buffer behind them has to grow.
#[test]
fn a_long_recording_keeps_its_parameters_apart() {
    let gpu = open(&GpuOptions::default());
    for steps in [3, 3000, 100, 9000] {
        let mut rec = Recorder::new(&gpu);
        let to = persistent(&gpu, 1, 4);
        let gain = rec.upload_f32("gain", 1, &[1.0; 4]).unwrap();
        let x = rec.upload_f32("x", 1, &[2.0; 4]).unwrap();
        for step in 0..steps {
            // The last eps decides: 2 / sqrt(4 + 12).
            let eps = if step + 1 == steps { 12.0 } else { step as f32 };
            let params = [1, 1, 0, eps.to_bits()];
            let variant = Variant::with(&[("WG", 64.0)]);
            rec.dispatch(&ops::rms_norm::KERNEL, variant, &params, &[&x, &gain, &to], [1, 1, 1]);
        }
        gpu.execute(rec.finish()).unwrap();
        assert_eq!(read(&gpu, &to), [0.5; 4], "{steps} steps");
    }
    assert_eq!(gpu.pipeline_count(), 1);
}

#[test]
fn the_same_pass_again_compiles_nothing_and_gives_the_same() {
    let gpu = open(&GpuOptions::default());
    let pass = || {
        let mut rec = Recorder::new(&gpu);
        let x = rec.upload_f32("x", 3, &ramp(1.0, 24)).unwrap();
        let gain = rec.upload_f32("gain", 1, &ramp(0.5, 8)).unwrap();
        let normed = ops::rms_norm::rms_norm(&mut rec, &x, &gain, 1e-6, 0, 3).unwrap();
        let y = ops::swiglu::swiglu(&mut rec, &normed).unwrap();
        gpu.execute(rec.finish()).unwrap();
        read(&gpu, &y)
    };
    let first = pass();
    let pipelines = gpu.pipeline_count();
    assert_eq!(pipelines, 2);
    assert_eq!(pass(), first);
    gpu.forget_bind_groups();
    assert_eq!(pass(), first);
    assert_eq!(gpu.pipeline_count(), pipelines);
}

#[test]
fn passes_run_after_the_pool_was_emptied() {
    let gpu = open(&GpuOptions::default());
    for turn in 0..3 {
        let mut rec = Recorder::new(&gpu);
        let from = rec.upload_f32("from", 4, &ramp(turn as f32, 16)).unwrap();
        let scratch = rec.scratch("scratch", 4, 4).unwrap();
        copy(&mut rec, &from, &scratch);
        gpu.execute(rec.finish()).unwrap();
        // What is in use stays, the rest goes.
        drop(from);
        gpu.trim();
        assert_eq!(read(&gpu, &scratch), ramp(turn as f32, 16), "turn {turn}");
    }
    gpu.check().unwrap();
}

#[test]
fn an_empty_recording_and_empty_launches_do_nothing() {
    let gpu = open(&GpuOptions::default());
    gpu.execute(Recorder::new(&gpu).finish()).unwrap();
    let mut rec = Recorder::new(&gpu);
    let x = rec.upload_f32("x", 1, &ramp(1.0, 4)).unwrap();
    let none = rec.upload_u32("none", 0, &[]).unwrap();
    ops::gather_rows::gather_rows(&mut rec, &x, &none, &x.reshape(0, 4).unwrap()).unwrap();
    let recording = rec.finish();
    assert!(recording.dispatches.is_empty());
    gpu.execute(recording).unwrap();
    assert_eq!(read(&gpu, &x), ramp(1.0, 4));
}

#[test]
fn reading_and_writing_ranges() {
    let gpu = open(&GpuOptions::default());
    let tensor = persistent(&gpu, 5, 3);
    assert_eq!(read(&gpu, &tensor), [0.0; 15]);
    gpu.write(&tensor, 16, bytemuck::cast_slice(&ramp(4.0, 11))).unwrap();
    assert_eq!(block_on(gpu.read_f32(&tensor, 3, 5)).unwrap(), [0.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(block_on(gpu.read_f32(&tensor, 14, 1)).unwrap(), [14.0]);
    assert_eq!(block_on(gpu.read_f32(&tensor, 15, 0)).unwrap(), [0f32; 0]);
    assert_eq!(block_on(gpu.read_u32(&tensor, 4, 1)).unwrap(), [4f32.to_bits()]);
    for (start, count) in [(14, 2), (0, 16), (16, 0), (usize::MAX, 2), (2, usize::MAX)] {
        let refused = block_on(gpu.read_f32(&tensor, start, count));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{count} at {start}: {refused:?}");
    }
    for (offset, bytes) in [(64, 4), (60, 8), (0, 3), (2, 4), (u64::MAX - 3, 4)] {
        let refused = gpu.write(&tensor, offset, &vec![0; bytes]);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{bytes} at {offset}: {refused:?}");
    }
    gpu.check().unwrap();
}

#[test]
fn tensors_beyond_the_binding_limit_are_refused_with_both_numbers() {
    let gpu = open(&GpuOptions { max_binding: Some(4096), ..Default::default() });
    let mut rec = Recorder::new(&gpu);
    assert!(rec.scratch("fits", 32, 32).is_ok());
    assert!(gpu.persistent("fits", 1, 1024, Element::U32).is_ok());
    let refused = [
        rec.scratch("big", 1025, 1),
        rec.upload_f32("big", 1, &[0.0; 1028]),
        gpu.persistent("big", 205, 5, Element::F32),
        gpu.persistent("big", usize::MAX, usize::MAX, Element::F32),
    ];
    for result in refused {
        match result.map(|_| ()) {
            Err(Error::DeviceTooSmall { needed, available: 4096, what, .. }) => {
                assert!(needed > 4096 && what.starts_with("big"));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Every shape check of every op, one wrong thing at a time.
#[test]
fn wrong_shapes_are_refused() {
    let gpu = open(&GpuOptions::default());
    let mut rec = Recorder::new(&gpu);
    let t = |rows, cols| persistent(&gpu, rows, cols);
    let weight = |rows: usize, cols: usize| {
        let stride = cols.next_multiple_of(16);
        let format = WeightFormat::Plain(Layout::F32);
        let shard = WeightShard { tensor: t(rows, stride), row_start: 0, rows, stride, groups: stride / 16, format };
        Weight { shards: vec![shard], rows, cols }
    };
    let mut refused = Vec::new();
    let mut note = |what: &'static str, result: Result<()>| refused.push((what, result));

    let mut linear = |what, x: Tensor, w: Weight, bias: Option<Tensor>, y: Tensor, n, x_row, y_row| {
        let rows = Rows { n, x_row, y_row };
        note(what, ops::linear(&mut rec, &x, &w, bias.as_ref(), &y, rows, LinearOptions::default()));
    };
    linear("x of another width", t(2, 12), weight(5, 8), None, t(2, 5), 1, 0, 0);
    linear("x not padded", t(2, 6), weight(5, 6), None, t(2, 5), 1, 0, 0);
    linear("y of another width", t(2, 8), weight(5, 8), None, t(2, 4), 1, 0, 0);
    linear("short bias", t(2, 8), weight(5, 8), Some(t(1, 4)), t(2, 5), 1, 0, 0);
    linear("too few rows of x", t(2, 8), weight(5, 8), None, t(4, 5), 2, 1, 0);
    linear("too few rows of y", t(4, 8), weight(5, 8), None, t(2, 5), 2, 0, 1);

    let ids = |n| gpu.persistent("ids", 1, n, Element::U32).unwrap();
    let choices = ops::top_merge::Choices::new(&gpu, 32, 2).unwrap();
    let mut choose = |what, x: Tensor, cols, slot| {
        note(what, ops::top_merge::choose(&mut rec, &x, cols, None, &choices, slot));
    };
    choose("a choice of nothing", t(1, 8), 0, 0);
    choose("a choice beyond the logits", t(1, 8), 9, 0);
    choose("a choice without its bit", t(1, 40), 33, 0);
    choose("a choice without its slot", t(1, 8), 8, 2);
    note("embedding of odd width", ops::embed::embed(&mut rec, &ids(2), &weight(5, 6)).map(|_| ()));
    note("gather into another width", ops::gather_rows::gather_rows(&mut rec, &t(3, 8), &ids(2), &t(2, 4)));
    note("gather into too few rows", ops::gather_rows::gather_rows(&mut rec, &t(3, 8), &ids(3), &t(2, 8)));
    note("gather of odd width", ops::gather_rows::gather_rows(&mut rec, &t(3, 6), &ids(2), &t(2, 6)));
    note("norm beyond the rows", ops::rms_norm::rms_norm(&mut rec, &t(4, 8), &t(1, 8), 1e-6, 2, 3).map(|_| ()));
    note("norm with another gain", ops::rms_norm::rms_norm(&mut rec, &t(4, 8), &t(1, 4), 1e-6, 0, 1).map(|_| ()));
    note("norm of odd width", ops::rms_norm::rms_norm(&mut rec, &t(4, 6), &t(1, 6), 1e-6, 0, 1).map(|_| ()));
    note("swiglu of odd halves", ops::swiglu::swiglu(&mut rec, &t(2, 12)).map(|_| ()));

    let heads = Heads { q: 4, kv: 2, dim: 8 };
    let mut rope = |what, qkv: Tensor, table: Tensor, q: Tensor, k: Tensor, v: Tensor, row, past| {
        let to = RopeTarget { q: &q, q_capacity: 6, row, table_row: row, k: &k, v: &v, capacity: 10, past };
        note(what, ops::rope::rope(&mut rec, &qkv, None, &table, heads, to));
    };
    rope("qkv of another width", t(3, 56), t(6, 8), t(24, 8), t(20, 8), t(20, 8), 0, 0);
    rope("table of another width", t(3, 64), t(6, 4), t(24, 8), t(20, 8), t(20, 8), 0, 0);
    rope("table too short", t(3, 64), t(4, 8), t(24, 8), t(20, 8), t(20, 8), 2, 0);
    rope("rows beyond q", t(3, 64), t(9, 8), t(24, 8), t(20, 8), t(20, 8), 4, 0);
    rope("rows beyond the cache", t(3, 64), t(6, 8), t(24, 8), t(20, 8), t(20, 8), 0, 8);
    rope("q too small", t(3, 64), t(6, 8), t(23, 8), t(20, 8), t(20, 8), 0, 0);
    rope("k too small", t(3, 64), t(6, 8), t(24, 8), t(19, 8), t(20, 8), 0, 0);
    rope("v too small", t(3, 64), t(6, 8), t(24, 8), t(20, 8), t(19, 8), 0, 0);

    let odd = Heads { q: 1, kv: 1, dim: 7 };
    let (q, k, v) = (t(1, 7), t(1, 7), t(1, 7));
    let to = RopeTarget { q: &q, q_capacity: 1, row: 0, table_row: 0, k: &k, v: &v, capacity: 1, past: 0 };
    note("a head of odd size", ops::rope::rope(&mut rec, &t(1, 21), None, &t(1, 7), odd, to));

    for gains in [[8, 4], [4, 8]].map(|widths| widths.map(|width| t(1, width))) {
        let (q, k, v) = (t(12, 8), t(6, 8), t(6, 8));
        let to = RopeTarget { q: &q, q_capacity: 3, row: 0, table_row: 0, k: &k, v: &v, capacity: 3, past: 0 };
        let norm = Some(HeadNorm { q_gain: &gains[0], k_gain: &gains[1], eps: 1e-6 });
        note("a gain of another width", ops::rope::rope(&mut rec, &t(3, 64), norm, &t(3, 8), heads, to));
    }

    let mut attend = |what, q: Tensor, k: Tensor, v: Tensor, ranges: Tensor, heads| {
        note(what, ops::attention::attention(&mut rec, &q, &k, &v, &Mask::Ranges(&ranges), heads, 10).map(|_| ()));
    };
    attend("k too small", t(12, 8), t(19, 8), t(20, 8), t(3, 2), heads);
    attend("v too small", t(12, 8), t(20, 8), t(19, 8), t(3, 2), heads);
    attend("too few ranges", t(12, 8), t(20, 8), t(20, 8), t(2, 2), heads);
    attend("ranges of another width", t(12, 8), t(20, 8), t(20, 8), t(3, 3), heads);
    attend("q of another width", t(12, 4), t(20, 8), t(20, 8), t(3, 2), heads);
    attend("queries that do not divide", t(13, 8), t(20, 8), t(20, 8), t(4, 2), heads);
    attend("heads that do not divide", t(12, 8), t(30, 8), t(30, 8), t(3, 2), Heads { q: 4, kv: 3, dim: 8 });
    attend("no heads", t(12, 8), t(20, 8), t(20, 8), t(3, 2), Heads { q: 0, kv: 0, dim: 8 });
    attend("a head of 6", t(12, 6), t(20, 6), t(20, 6), t(3, 2), Heads { q: 4, kv: 2, dim: 6 });
    attend("a head too large", t(12, 260), t(20, 260), t(20, 260), t(3, 2), Heads { q: 4, kv: 2, dim: 260 });
    let causal = Mask::Causal { past: 10, ranges: None };
    let beyond = ops::attention::attention(&mut rec, &t(4, 8), &t(20, 8), &t(20, 8), &causal, heads, 10);
    note("more keys than the cache holds", beyond.map(|_| ()));

    let piece = |rows, cols, format| Segment { k: t(rows, cols), v: t(rows, cols), capacity: 10, format };
    let mut over = |what, segments: &[Segment]| {
        let mask = Mask::Ranges(&t(3, 2));
        note(what, ops::attention::attend(&mut rec, &t(12, 8), segments, &mask, heads).map(|_| ()));
    };
    over("no segment", &[]);
    over("a second segment too small", &[piece(20, 8, CacheFormat::F32), piece(19, 8, CacheFormat::F32)]);
    over("segments of two formats", &[piece(20, 8, CacheFormat::F32), piece(20, 3, CacheFormat::Q8)]);
    let mut store = |what, k: Tensor, v: Tensor, kv, rows, past| {
        let to = piece(rows, 3, CacheFormat::Q8);
        note(what, ops::cache_store::cache_store(&mut rec, &k, &v, kv, None, &to, past));
    };
    store("values that are not as many", t(6, 8), t(4, 8), 2, 20, 0);
    store("rows that heads do not divide", t(5, 8), t(5, 8), 2, 20, 0);
    store("rows of no heads", t(6, 8), t(6, 8), 0, 20, 0);
    store("rows of odd width", t(6, 6), t(6, 6), 2, 20, 0);
    store("rows beyond the segment", t(6, 8), t(6, 8), 2, 20, 8);
    store("a segment that is too small", t(6, 8), t(6, 8), 2, 19, 0);
    let to = piece(20, 8, CacheFormat::F32);
    note("a segment of f32", ops::cache_store::cache_store(&mut rec, &t(6, 8), &t(6, 8), 2, None, &to, 0));
    let to = piece(20, 3, CacheFormat::Q8);
    for first in [2, 8] {
        let centre = t(1, 20);
        let centred = ops::cache_store::cache_store(&mut rec, &t(6, 8), &t(6, 8), 2, Some((&centre, first)), &to, 0);
        note("a centre that is not there", centred);
    }

    for (what, result) in &refused {
        assert!(matches!(result, Err(Error::Shape { .. })), "{what}: {result:?}");
    }
    // Several queries that see one another need their ranges.
    let causal = Mask::Causal { past: 0, ranges: None };
    let refused = ops::attention::attention(&mut rec, &t(12, 8), &t(20, 8), &t(20, 8), &causal, heads, 10);
    assert!(matches!(refused.map(|_| ()), Err(Error::Invalid { .. })));
    assert!(rec.finish().dispatches.is_empty());
    assert!(t(2, 3).reshape(3, 2).is_ok() && t(2, 3).reshape(1, 6).is_ok());
    assert!(matches!(t(2, 3).reshape(7, 1).map(|_| ()), Err(Error::Shape { .. })));
    gpu.check().unwrap();
}
