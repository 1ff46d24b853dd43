//! Plans and what is streamed by them, compared with naive twins.

use std::collections::BTreeMap;

use fanlight::Error;
use fanlight::dtype::{Dtype, Element, Layout};
use fanlight::weights::index::SINGLE;
use fanlight::weights::plan::{MatrixPlan, plan};
use fanlight::weights::quantize::Formats;
use fanlight::weights::stream::{CHUNK_BYTES, stream};
use fanlight::weights::{Checkpoint, Limits, MatrixSpec, Memory, Piece, Plan, Sink, Source, VectorSpec};
use fanlight::weights::{TensorInfo, safetensors as ours};

use crate::support::{Noting, Random, Written, block_on, memory, write};

pub const KEEP: Formats = Formats { vision: None, text: None, embeddings: None };
pub const ROOMY: Limits = Limits { max_binding: 128 << 20, max_buffer: 256 << 20 };

/// Buffers of zeros that note every write; a vector may come only once.
#[derive(Debug, PartialEq)]
pub struct Buffers {
    matrices: Vec<Vec<Vec<u8>>>,
    vectors: Vec<Option<Vec<f32>>>,
    /// Fails the write after this many.
    patience: usize,
}

impl Buffers {
    fn new(plan: &Plan) -> Self {
        let shards = |m: &MatrixPlan| m.shards.iter().map(|s| vec![0; s.bytes() as usize]).collect();
        let matrices = plan.matrices.iter().map(shards).collect();
        Buffers { matrices, vectors: vec![None; plan.vectors.len()], patience: usize::MAX }
    }
}

impl Sink for Buffers {
    fn write(&mut self, matrix: usize, shard: usize, offset: u64, bytes: &[u8]) -> fanlight::Result<()> {
        if self.patience == 0 {
            return Err(Error::Cancelled);
        }
        self.patience -= 1;
        assert!(offset.is_multiple_of(16) && bytes.len().is_multiple_of(16) && !bytes.is_empty());
        self.matrices[matrix][shard][offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn columns(&mut self, _: usize, _: usize, _: usize, _: usize, _: &[u32]) -> fanlight::Result<()> {
        panic!("no packed layers here");
    }

    fn vector(&mut self, index: usize, values: &[f32]) -> fanlight::Result<()> {
        assert!(self.vectors[index].replace(values.to_vec()).is_none(), "vector {index} came twice");
        Ok(())
    }
}

pub fn run(plan: &Plan, source: &dyn Source, chunk: u64) -> Buffers {
    let mut buffers = Buffers::new(plan);
    let mut heard = Vec::new();
    block_on(stream(plan, source, chunk, &mut buffers, &mut |done, total| heard.push((done, total)))).unwrap();
    assert!(heard.is_sorted() && heard.iter().all(|h| h.1 == plan.source_bytes()));
    assert_eq!(heard.last().map_or(0, |h| h.0), plan.source_bytes());
    buffers
}

/// The rows of one piece in the device's layout, straight from the definition: floats in the file's type, each row filled
/// with zeros up to 16 elements.
fn twin_rows(file: &[u8], info: &TensorInfo, piece: &Piece) -> Vec<u8> {
    let data = &file[info.range.start as usize..info.range.end as usize];
    let Element::Known(dtype) = info.dtype else { panic!("{info:?}") };
    let size = if dtype == Dtype::F32 { 4 } else { 2 };
    let mut out = Vec::new();
    for row in 0..piece.padded_rows {
        let start = out.len();
        if row < piece.rows {
            out.extend_from_slice(&data[row * piece.cols * size..][..piece.cols * size]);
        }
        out.resize(start + piece.cols.next_multiple_of(16) * size, 0);
    }
    out
}

fn twin_vector(file: &[u8], info: &TensorInfo, piece: &Piece) -> Vec<f32> {
    let data = &file[info.range.start as usize..info.range.end as usize];
    let Element::Known(from) = info.dtype else { panic!("{info:?}") };
    let mut values = from.to_f32(data).unwrap();
    values.resize(piece.padded_rows, 0.0);
    values
}

/// Checks streamed buffers against the twins; `files` are the checkpoint's.
pub fn check(
    plan: &Plan,
    buffers: &Buffers,
    matrices: &[MatrixSpec],
    vectors: &[VectorSpec],
    checkpoint: &Checkpoint,
    files: &BTreeMap<String, Vec<u8>>,
) {
    for ((spec, m), shards) in matrices.iter().zip(&plan.matrices).zip(&buffers.matrices) {
        let expected: Vec<u8> = spec
            .sources
            .iter()
            .flat_map(|piece| {
                let info = checkpoint.get(&piece.tensor).unwrap();
                twin_rows(&files[&info.file], info, piece)
            })
            .collect();
        assert!(shards.concat() == expected, "{}", m.name);
    }
    for ((spec, v), values) in vectors.iter().zip(&plan.vectors).zip(&buffers.vectors) {
        let expected: Vec<f32> = spec
            .sources
            .iter()
            .flat_map(|piece| {
                let info = checkpoint.get(&piece.tensor).unwrap();
                twin_vector(&files[&info.file], info, piece)
            })
            .collect();
        let values = values.as_ref().unwrap_or_else(|| panic!("{} never came", v.name));
        assert!(values.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits())), "{}", v.name);
        assert_eq!(v.len, values.len());
    }
}

#[test]
fn random_plans_stream_to_what_the_definition_says() {
    let mut random = Random(5);
    const TYPES: [&str; 3] = ["F32", "F16", "BF16"];
    for round in 0..200 {
        // Up to three files; matrices of one to three pieces, vectors of one or two.
        let mut tensors: Vec<Vec<Written>> = vec![Vec::new(); 1 + random.below(3)];
        let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
        let mut add = |random: &mut Random, name: &str, dtype: &'static str, shape: Vec<u64>| {
            let size = if dtype == "F32" { 4 } else { 2 };
            let bytes = random.bytes(shape.iter().product::<u64>() as usize * size);
            let file = random.below(tensors.len());
            tensors[file].push((name.to_owned(), dtype, shape, bytes));
        };
        for m in 0..1 + random.below(3) {
            let (cols, mixed) = (1 + random.below(70), random.below(4) == 0);
            let dtype = TYPES[random.below(3)];
            let pieces = (0..1 + random.below(3)).map(|p| {
                let (name, rows) = (format!("m{m}.{p}"), 1 + random.below(40));
                let dtype = if mixed { TYPES[random.below(3)] } else { dtype };
                let piece = Piece::matrix(&name, rows, cols).padded([1, 4][random.below(2)]);
                if cols % 6 == 0 {
                    add(&mut random, &name, dtype, vec![rows as u64, 3, 2, cols as u64 / 6]);
                    return piece.shaped(&[rows, 3, 2, cols / 6]);
                }
                add(&mut random, &name, dtype, vec![rows as u64, cols as u64]);
                piece
            });
            matrices.push(MatrixSpec::new(format!("part{}.m{m}", m % 2), pieces.collect()));
        }
        for v in 0..random.below(4) {
            let pieces = (0..1 + random.below(2)).map(|p| {
                let (name, len) = (format!("v{v}.{p}"), 1 + random.below(50));
                let dtype = TYPES[random.below(3)];
                add(&mut random, &name, dtype, vec![len as u64]);
                Piece::vector(&name, len).padded([1, 4][random.below(2)])
            });
            vectors.push(VectorSpec::new(format!("v{v}"), pieces.collect()));
        }
        let files: BTreeMap<String, Vec<u8>> =
            tensors.iter().enumerate().map(|(i, t)| (format!("s{i}"), write(t))).collect();
        let mut source = Memory::new();
        files.iter().for_each(|(name, bytes)| source.insert(name, bytes.clone()));
        let infos = files.keys().flat_map(|name| block_on(ours::read_header(&source, name)).unwrap()).collect();
        let checkpoint = Checkpoint::new(infos).unwrap();
        let source = Noting::new(source);

        // Four rows of 70 f32 take 1280 bytes.
        let max_binding = 1280 + random.below(6000) as u64;
        let limits = Limits { max_binding, max_buffer: max_binding + random.below(9) as u64 };
        let plan = plan(&checkpoint, &matrices, &vectors, limits, &KEEP).unwrap();
        for (m, spec) in plan.matrices.iter().zip(&matrices) {
            let mut row = 0;
            for (i, shard) in m.shards.iter().enumerate() {
                assert_eq!(shard.row_start, row);
                assert!(shard.bytes() <= max_binding && shard.rows > 0);
                assert_eq!(shard.row_words, shard.layout.row_words(m.cols as u64).unwrap());
                let ends = m.shards.get(i + 1).is_none_or(|next| next.layout != shard.layout);
                assert!(shard.rows % 4 == 0 || ends);
                row += shard.rows;
            }
            assert_eq!((row, m.cols), (spec.rows, spec.cols));
        }
        let device: u64 = plan.device_bytes().values().sum();
        let shards: u64 = plan.matrices.iter().flat_map(|m| &m.shards).map(|s| s.bytes()).sum();
        assert_eq!(device, shards + plan.vectors.iter().map(|v| v.len as u64 * 4).sum::<u64>());

        let chunk = [1, 4096, 5000, CHUNK_BYTES][round % 4];
        let buffers = run(&plan, &source, chunk);
        check(&plan, &buffers, &matrices, &vectors, &checkpoint, &files);
        let reads = source.reads.take();
        assert!(reads.is_sorted_by(|(fa, a), (fb, b)| fa < fb || fa == fb && a.end <= b.start), "{reads:?}");
        assert!(reads.iter().all(|(_, r)| r.end - r.start <= chunk.max(4096)));
        if chunk == CHUNK_BYTES {
            assert!(reads.len() <= files.len(), "neighbours share a read");
        }
    }
}

#[test]
fn pieces_of_several_types_keep_them() {
    let file = ours::write(&[
        ("a", "BF16", &[1, 2], &[0x80, 0x3f, 0x20, 0xc0]),
        ("b", "BF16", &[1, 2], &[0, 0, 0x80, 0xbf]),
        ("c", "F16", &[1, 2], &[0, 0x3c, 0xff, 0x7b]),
    ]);
    let source = memory(&[(SINGLE, &file.unwrap())]);
    let checkpoint = block_on(Checkpoint::open(&source)).unwrap();
    let spec = MatrixSpec::new("m", ["a", "b", "c"].map(|name| Piece::matrix(name, 1, 2)).to_vec());
    let plan = plan(&checkpoint, &[spec], &[], ROOMY, &KEEP).unwrap();
    let shards: Vec<_> = plan.matrices[0].shards.iter().map(|s| (s.row_start, s.rows, s.layout)).collect();
    assert_eq!(shards, [(0, 2, Layout::Bf16), (2, 1, Layout::F16)]);
    let buffers = run(&plan, &source, CHUNK_BYTES);
    let read = |dtype: Dtype, bytes: &[u8]| dtype.to_f32(bytes).unwrap();
    let bf16 = read(Dtype::BF16, &buffers.matrices[0][0]);
    assert_eq!((bf16.len(), &bf16[..3], &bf16[16..19]), (32, &[1.0, -2.5, 0.0][..], &[0.0, -1.0, 0.0][..]));
    assert_eq!(read(Dtype::F16, &buffers.matrices[0][1])[..3], [1.0, 65504.0, 0.0]);
}

#[test]
fn one_tensor_can_serve_twice() {
    let values: Vec<u8> = (0..96u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let source = memory(&[(SINGLE, &ours::write(&[("w", "F32", &[6, 16], &values)]).unwrap())]);
    let checkpoint = block_on(Checkpoint::open(&source)).unwrap();
    let piece = || Piece::matrix("w", 6, 16);
    let specs = [MatrixSpec::new("a", vec![piece()]), MatrixSpec::new("b", vec![piece(), piece()])];
    let plan = plan(&checkpoint, &specs, &[], ROOMY, &KEEP).unwrap();
    let buffers = run(&plan, &source, CHUNK_BYTES);
    assert_eq!(buffers.matrices, [vec![values.clone()], vec![values.repeat(2)]]);
}

#[test]
fn nothing_is_planned_that_does_not_fit() {
    let file =
        ours::write(&[("w", "F32", &[6, 5], &[0; 120]), ("b", "F32", &[6], &[0; 24]), ("i", "I32", &[6], &[0; 24])]);
    let source = memory(&[(SINGLE, &file.unwrap())]);
    let checkpoint = block_on(Checkpoint::open(&source)).unwrap();
    let w = |rows, cols| MatrixSpec::new("text.w", vec![Piece::matrix("w", rows, cols)]);
    let v = |name: &str, len| VectorSpec::new("text.v", vec![Piece::vector(name, len)]);
    let plan_one = |m: MatrixSpec, limits| plan(&checkpoint, &[m], &[], limits, &KEEP);
    let vector = |v: VectorSpec| plan(&checkpoint, &[], &[v], ROOMY, &KEEP);

    let fine = plan(&checkpoint, &[w(6, 5)], &[v("b", 6)], ROOMY, &KEEP).unwrap();
    assert_eq!(fine.device_bytes(), BTreeMap::from([("text", 6 * 64 + 24)]));
    assert_eq!(fine.source_bytes(), 144);

    let error = plan_one(w(5, 6), ROOMY).unwrap_err();
    assert_eq!(error, Error::Shape { what: "w".into(), expected: vec![5, 6], found: vec![6, 5] });
    assert!(matches!(vector(v("w", 30)), Err(Error::Shape { .. })));
    let missing = vector(v("nobody", 6)).unwrap_err();
    assert!(matches!(&missing, Error::Missing { what, .. } if what == "nobody"), "{missing}");
    assert!(matches!(vector(v("i", 6)), Err(Error::Dtype { found, .. }) if found == "I32"));

    // Rows of 64 bytes: four fit 256, all six 384.
    let limits = |max_binding, max_buffer| Limits { max_binding, max_buffer };
    let rows = |l| plan_one(w(6, 5), l).map(|p| p.matrices[0].shards.iter().map(|s| s.rows).collect::<Vec<_>>());
    assert_eq!(rows(limits(384, 384)).unwrap(), [6]);
    assert_eq!(rows(limits(383, 1000)).unwrap(), [4, 2]);
    assert_eq!(rows(limits(1000, 256)).unwrap(), [4, 2]);
    let error = rows(limits(255, 1000)).unwrap_err();
    assert!(
        matches!(&error, Error::DeviceTooSmall { limit, needed: 256, available: 255, .. }
            if limit == "maxStorageBufferBindingSize"),
        "{error}"
    );
    assert!(matches!(rows(limits(0, 0)), Err(Error::DeviceTooSmall { .. })));

    // Specs that contradict themselves are our own bugs, but no panics.
    for bad in [
        w(0, 5),
        w(6, 0),
        MatrixSpec::new("none", vec![]),
        MatrixSpec { rows: 7, ..w(6, 5) },
        MatrixSpec::new("widths", vec![Piece::matrix("w", 6, 5), Piece::matrix("w", 5, 6)]),
        MatrixSpec::new("shape", vec![Piece::matrix("w", 6, 5).shaped(&[6, 4])]),
        MatrixSpec::new("huge", vec![Piece::matrix("w", usize::MAX, usize::MAX)]),
        MatrixSpec::new("huge", vec![Piece::matrix("w", 6, 5).padded(usize::MAX), Piece::matrix("w", 6, 5)]),
        MatrixSpec::new("zero unit", vec![Piece::matrix("w", 6, 5).padded(0)]),
    ] {
        let error = plan_one(bad.clone(), ROOMY).expect_err(&bad.name);
        assert!(matches!(error, Error::Invalid { .. } | Error::Shape { .. } | Error::DeviceTooSmall { .. }), "{error}");
    }
    assert!(vector(v("b", 0)).is_err() && vector(VectorSpec { len: 7, ..v("b", 6) }).is_err());
}

#[test]
fn a_sink_can_stop_the_stream() {
    let file = ours::write(&[("w", "F32", &[4096, 4], &[0; 65536])]);
    let source = Noting::new(memory(&[(SINGLE, &file.unwrap())]));
    let checkpoint = block_on(Checkpoint::open(&source)).unwrap();
    let spec = MatrixSpec::new("m", vec![Piece::matrix("w", 4096, 4)]);
    let plan = plan(&checkpoint, &[spec], &[], ROOMY, &KEEP).unwrap();
    let mut buffers = Buffers { patience: 3, ..Buffers::new(&plan) };
    source.reads.take();
    let result = block_on(stream(&plan, &source, 4096, &mut buffers, &mut |_, _| ()));
    assert_eq!(result, Err(Error::Cancelled));
    assert_eq!(source.reads.take().len(), 4, "nothing is read after the refusal");
}
