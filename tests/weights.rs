//! The weights room against the `safetensors` crate, against naive twins, and on the tiny checkpoints of
//! `tests/golden/models`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fanlight::Error;
use fanlight::dtype::{Dtype, Element, Layout};
use fanlight::model::registry::parse_config;
use fanlight::model::{names, section};
use fanlight::weights::index::{INDEX, SINGLE};
use fanlight::weights::plan::{CHUNK_BYTES, plan, stream};
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::{Pending, read_exact};
use fanlight::weights::{Checkpoint, Directory, Limits, MatrixSpec, Memory, Piece, Plan, Sink, Source, VectorSpec};
use fanlight::weights::{TensorInfo, safetensors as ours};

/// Runs a future that never waits: memory and disk answer at once.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a source in these tests waited"),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Memory that notes what is asked of it.
struct Noting {
    files: Memory,
    reads: RefCell<Vec<(String, Range<u64>)>>,
}

impl Noting {
    fn new(files: Memory) -> Self {
        Noting { files, reads: RefCell::default() }
    }
}

impl Source for Noting {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.files.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.reads.borrow_mut().push((file.to_owned(), range.clone()));
        self.files.read(file, range)
    }
}

fn memory(files: &[(&str, &[u8])]) -> Memory {
    let mut memory = Memory::new();
    for (name, bytes) in files {
        memory.insert(*name, bytes.to_vec());
    }
    memory
}

fn open(files: Memory) -> fanlight::Result<Checkpoint> {
    block_on(Checkpoint::open(&files))
}

// --- safetensors, against the crate ---------------------------------------------------------------------------------

/// A tensor to write: name, type, shape, data.
type Written = (String, &'static str, Vec<u64>, Vec<u8>);

fn random_tensors(random: &mut Random) -> Vec<Written> {
    const TYPES: [(&str, usize); 8] =
        [("F32", 4), ("F16", 2), ("BF16", 2), ("I32", 4), ("U8", 1), ("I64", 8), ("BOOL", 1), ("F8_E4M3", 1)];
    let count = random.below(5);
    (0..count)
        .map(|i| {
            let (dtype, size) = TYPES[random.below(TYPES.len())];
            let rank = random.below(4);
            let shape: Vec<u64> = (0..rank).map(|_| random.below(5) as u64).collect();
            let bytes = shape.iter().product::<u64>() as usize * size;
            (format!("layer.{i}\u{e9}\"{}", random.below(10)), dtype, shape, random.bytes(bytes))
        })
        .collect()
}

fn write(tensors: &[Written]) -> Vec<u8> {
    let borrowed: Vec<_> = tensors.iter().map(|(n, d, s, b)| (n.as_str(), *d, s.as_slice(), b.as_slice())).collect();
    ours::write(&borrowed).unwrap()
}

fn read(file: &[u8]) -> fanlight::Result<Vec<TensorInfo>> {
    block_on(ours::read_header(&memory(&[("f", file)]), "f"))
}

/// Name, type, shape, range in the file: what both parsers should agree on.
type Facts = Vec<(String, String, Vec<u64>, Range<u64>)>;

fn our_facts(tensors: Vec<TensorInfo>) -> Facts {
    let mut facts: Facts = tensors.into_iter().map(|t| (t.name, t.dtype.name().to_owned(), t.shape, t.range)).collect();
    facts.sort_by(|a, b| a.0.cmp(&b.0));
    facts
}

fn their_facts(file: &[u8]) -> Result<Facts, safetensors::SafeTensorError> {
    let (header, metadata) = safetensors::SafeTensors::read_metadata(file)?;
    let start = header as u64 + 8;
    let facts = metadata.tensors().into_iter().map(|(name, info)| {
        let (begin, end) = (start + info.data_offsets.0 as u64, start + info.data_offsets.1 as u64);
        (name, format!("{:?}", info.dtype), info.shape.iter().map(|&d| d as u64).collect(), begin..end)
    });
    let mut facts: Facts = facts.collect();
    facts.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(facts)
}

#[test]
fn what_we_write_the_crate_reads() {
    let mut random = Random(1);
    for _ in 0..300 {
        let tensors = random_tensors(&mut random);
        let file = write(&tensors);
        let theirs = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(theirs.len(), tensors.len());
        for (name, dtype, shape, bytes) in &tensors {
            let view = theirs.tensor(name).unwrap();
            assert_eq!(view.data(), bytes);
            assert_eq!(&format!("{:?}", view.dtype()), dtype);
            assert!(view.shape().iter().map(|&d| d as u64).eq(shape.iter().copied()));
        }
        assert_eq!(our_facts(read(&file).unwrap()), their_facts(&file).unwrap());
    }
}

#[test]
fn what_the_crate_writes_we_read() {
    let mut random = Random(2);
    for _ in 0..300 {
        let tensors = random_tensors(&mut random);
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let dtype = serde_json::from_value(serde_json::Value::from(*dtype)).unwrap();
            let shape = shape.iter().map(|&d| d as usize).collect();
            (name.clone(), safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap())
        });
        let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
        let file = safetensors::serialize(views, metadata).unwrap();
        assert_eq!(our_facts(read(&file).unwrap()), their_facts(&file).unwrap());
    }
}

#[test]
fn damaged_headers_are_judged_as_the_crate_judges_them() {
    let mut random = Random(3);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..60_000 {
        let mut file = write(&random_tensors(&mut random));
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        for _ in 0..1 + random.below(2) {
            let at = 8 + random.below(header);
            match random.below(9) {
                0 => file[at] = random.next() as u8,
                1 => file[at] = b"0123456789{}[],:\" -.eFn"[random.below(23)],
                // A digit for a digit keeps the JSON whole and makes the numbers lie.
                2..=4 => {
                    let digits: Vec<usize> = (8..8 + header).filter(|&i| file[i].is_ascii_digit()).collect();
                    if !digits.is_empty() {
                        file[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
                    }
                }
                5 => file.truncate(random.below(file.len() + 1).max(8 + header)),
                6 => file.push(0),
                7 => file[random.below(8)] = random.next() as u8,
                _ => {
                    let (a, b) = (8 + random.below(header), 8 + random.below(header));
                    file.swap(a, b);
                }
            }
        }
        let text = String::from_utf8_lossy(&file[8..]).into_owned();
        match (read(&file), their_facts(&file)) {
            (Ok(ours), Ok(theirs)) => {
                good += 1;
                assert_eq!(our_facts(ours), theirs, "{text}");
            }
            (Err(_), Err(_)) => bad += 1,
            // We let a type that nobody knows pass, because nobody has to use the tensor.
            (Ok(ours), Err(e)) => assert!(ours.iter().any(|t| t.dtype.bits().is_none()), "{e}: {text}"),
            // And we are strict where a second reader could see another file.
            (Err(e), Ok(_)) => {
                let e = e.to_string();
                assert!(e.contains("duplicate") || e.contains("starts with {"), "{e}: {text}");
            }
        }
    }
    assert!(good > 5_000 && bad > 5_000, "{good} good, {bad} bad");
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    for (first, rest) in [
        (u64::MAX, &b"{}"[..]),
        (100_000_001, b"{}"),
        (99_999_999, b"{}"),
        (3, b"{}"),
        (0, b"{}"),
        (0, b""),
        (1 << 63, b""),
    ] {
        let file = [&first.to_le_bytes()[..], rest].concat();
        assert!(matches!(read(&file), Err(Error::Malformed { .. })), "{first}");
    }
    for short in 0..8 {
        assert!(matches!(read(&vec![0; short]), Err(Error::Malformed { .. })));
    }
    assert!(matches!(block_on(ours::read_header(&Memory::new(), "f")), Err(Error::Missing { .. })));
    assert!(matches!(block_on(ours::read_header(&Memory::new(), "../f")), Err(Error::Malformed { .. })));
}

// --- index ----------------------------------------------------------------------------------------------------------

fn one(name: &str) -> Vec<u8> {
    ours::write(&[(name, "F32", &[1], &[0, 0, 128, 63])]).unwrap()
}

#[test]
fn a_single_file_wins_over_an_index() {
    let checkpoint = open(memory(&[(SINGLE, &one("a")), (INDEX, b"not even JSON")])).unwrap();
    assert_eq!(checkpoint.tensors().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(matches!(open(Memory::new()), Err(Error::Missing { .. })));
    assert!(matches!(open(memory(&[(SINGLE, b"")])), Err(Error::Malformed { .. })));
}

#[test]
fn shards_join() {
    let index = br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "x/s1.safetensors", "b": "s2.safetensors"}}"#;
    let files = Noting::new(memory(&[(INDEX, index), ("x/s1.safetensors", &one("a")), ("s2.safetensors", &one("b"))]));
    let checkpoint = block_on(Checkpoint::open(&files)).unwrap();
    assert_eq!(checkpoint.get("a").unwrap().file, "x/s1.safetensors");
    assert_eq!(checkpoint.get("b").unwrap().file, "s2.safetensors");
    assert_eq!(files.reads.borrow().len(), 5, "the index and two small reads a shard");
    let renamed = checkpoint.clone().renamed(|name| format!("model.{name}")).unwrap();
    assert_eq!(renamed.get("model.a").unwrap().range, checkpoint.get("a").unwrap().range);
    assert!(matches!(checkpoint.renamed(|_| "x".to_owned()), Err(Error::Malformed { .. })));
}

#[test]
fn an_index_cannot_lie() {
    let check = |index: &str, shards: &[(&str, &[u8])]| {
        let mut files = memory(shards);
        files.insert(INDEX, index.as_bytes().to_vec());
        open(files)
    };
    let (a, b) = (one("a"), one("b"));
    let both: &[(&str, &[u8])] = &[("s1", &a), ("s2", &b)];
    check(r#"{"weight_map": {"a": "s1", "b": "s2"}}"#, both).unwrap();
    let missing = check(r#"{"weight_map": {"a": "s1", "b": "s3"}}"#, both);
    assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    for (index, shards) in [
        (r#"{"weight_map": {"a": "s1", "c": "s2"}}"#, both), // no such tensor
        (r#"{"weight_map": {"a": "s2", "b": "s2"}}"#, both), // in another shard
        (r#"{"weight_map": {"a": "s1", "b": "s2"}}"#, &[("s1", &a), ("s2", &a)]), // in both shards
        (r#"{"weight_map": {"a": "s1", "a": "s2"}}"#, both),
        (r#"{"weight_map": {}}"#, both),
        (r#"{"weight_map": {"a": 1}}"#, both),
        (r#"{"weight_map": ["s1"]}"#, both),
        (r#"{}"#, both),
        ("", both),
    ] {
        let error = check(index, shards).expect_err(index);
        assert!(matches!(error, Error::Malformed { .. }), "{index}: {error}");
    }
    let twice = check(r#"{"weight_map": {"a": "s1", "b": "s2", "a": "s1"}}"#, both).unwrap_err();
    assert!(twice.to_string().contains("duplicate key"), "{twice}");
}

#[test]
fn a_hostile_shard_name_is_never_read() {
    for name in
        ["../secret", "/etc/passwd", "..\\\\x", "https://evil.example/x", "%2e%2e/x", "a/../../x", "C:x", "x\\u0000"]
    {
        let index = format!(r#"{{"weight_map": {{"a": "a.safetensors", "b": "{name}"}}}}"#);
        let files = Noting::new(memory(&[(INDEX, index.as_bytes()), ("a.safetensors", &one("a"))]));
        let error = block_on(Checkpoint::open(&files)).expect_err(name);
        assert!(matches!(error, Error::Malformed { .. }), "{name}: {error}");
        assert_eq!(files.reads.borrow().len(), 1, "nothing but the index");
    }
}

// --- sources --------------------------------------------------------------------------------------------------------

#[test]
fn a_directory_reads_what_memory_reads() {
    let root = std::env::temp_dir().join(format!("fanlight-weights-{}", std::process::id()));
    std::fs::create_dir_all(root.join("sub")).unwrap();
    let bytes = Random(4).bytes(1000);
    std::fs::write(root.join("sub/f.bin"), &bytes).unwrap();
    let directory = Directory::new(&root);
    let memory = memory(&[("sub/f.bin", &bytes)]);
    for source in [&directory as &dyn Source, &memory] {
        assert_eq!(block_on(source.size("sub/f.bin")).unwrap(), Some(1000));
        assert_eq!(block_on(source.size("nothing")).unwrap(), None);
        assert_eq!(block_on(read_exact(source, "sub/f.bin", 10..20)).unwrap(), bytes[10..20]);
        assert_eq!(block_on(read_exact(source, "sub/f.bin", 1000..1000)).unwrap(), [0u8; 0]);
        assert_eq!(block_on(source.read_all("sub/f.bin", 1000)).unwrap(), bytes);
        assert!(matches!(block_on(source.read_all("sub/f.bin", 999)), Err(Error::Malformed { .. })));
        assert!(matches!(block_on(source.read_all("nothing", 9)), Err(Error::Missing { .. })));
        assert!(matches!(block_on(source.read("nothing", 0..1)), Err(Error::Missing { .. })));
        assert!(matches!(block_on(source.read("sub/f.bin", 990..1001)), Err(Error::Malformed { .. })));
        assert!(matches!(block_on(source.read("sub/f.bin", 0..u64::MAX)), Err(Error::Malformed { .. })));
        for bad in ["../f.bin", "sub/../sub/f.bin", "/etc/passwd", "sub//f.bin", ""] {
            assert!(matches!(block_on(source.size(bad)), Err(Error::Malformed { .. })), "{bad}");
            assert!(matches!(block_on(source.read(bad, 0..1)), Err(Error::Malformed { .. })), "{bad}");
        }
    }
    assert!(block_on(directory.size("sub")).is_err(), "a folder is not a file");
    std::fs::remove_dir_all(root).unwrap();
}

/// A source that answers with one byte too few.
struct Short(Memory);

impl Source for Short {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.0.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.0.read(file, range.start..range.end - 1)
    }
}

#[test]
fn a_short_answer_is_an_error() {
    let short = Short(memory(&[(SINGLE, &one("a"))]));
    assert!(matches!(block_on(short.read_all(SINGLE, 1 << 20)), Err(Error::Io { .. })));
    assert!(matches!(block_on(Checkpoint::open(&short)), Err(Error::Io { .. })));
}

// --- plan -----------------------------------------------------------------------------------------------------------

const KEEP: Formats = Formats { vision: None, text: None, embeddings: None };
const ROOMY: Limits = Limits { max_binding: 128 << 20, max_buffer: 256 << 20 };

/// Buffers of zeros that note every write; a vector may come only once.
#[derive(Debug, PartialEq)]
struct Buffers {
    matrices: Vec<Vec<Vec<u8>>>,
    vectors: Vec<Option<Vec<f32>>>,
    /// Fails the write after this many.
    patience: usize,
}

impl Buffers {
    fn new(plan: &Plan) -> Self {
        let shards =
            |m: &fanlight::weights::plan::MatrixPlan| m.shards.iter().map(|s| vec![0; s.bytes() as usize]).collect();
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

fn run(plan: &Plan, source: &dyn Source, chunk: u64) -> Buffers {
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
fn check(
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

// --- whole checkpoints ----------------------------------------------------------------------------------------------

#[test]
fn the_golden_checkpoints_load() {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&models).expect("tests/golden/models").map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("config.json").exists());
    assert!(folders.len() >= 5, "{folders:?}");
    let mut seen = Vec::new();
    for folder in folders {
        let source = Directory::new(&folder);
        let text = block_on(source.read_all(section::FILE, 1 << 20)).unwrap();
        let config = parse_config(&text).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let checkpoint = block_on(Checkpoint::open(&source)).unwrap();
        // The crate sees the same tensors.
        let mut files = BTreeMap::new();
        for file in checkpoint.tensors().map(|t| t.file.clone()).collect::<std::collections::BTreeSet<_>>() {
            let bytes = std::fs::read(folder.join(&file)).unwrap();
            let infos: Vec<TensorInfo> = checkpoint.tensors().filter(|t| t.file == file).cloned().collect();
            assert_eq!(our_facts(infos), their_facts(&bytes).unwrap());
            files.insert(file, bytes);
        }
        let before = checkpoint.tensors().count();
        let checkpoint = checkpoint.renamed(names::canonical).unwrap();
        let (matrices, vectors) = names::specs(&config, &|name| checkpoint.get(name).is_some());
        let used: usize = matrices.iter().map(|m| m.sources.len()).sum::<usize>()
            + vectors.iter().map(|v| v.sources.len()).sum::<usize>();
        assert_eq!(used, before, "{}: every tensor of the file has its place", folder.display());
        for limits in [ROOMY, Limits { max_binding: 2048, max_buffer: 1 << 20 }] {
            let Ok(plan) = plan(&checkpoint, &matrices, &vectors, limits, &KEEP) else {
                assert_ne!(limits, ROOMY);
                continue;
            };
            for chunk in [4096, CHUNK_BYTES] {
                let buffers = run(&plan, &source, chunk);
                check(&plan, &buffers, &matrices, &vectors, &checkpoint, &files);
            }
            seen.push((plan.matrices[1].shards[0].layout, files.len() > 1));
        }
    }
    for wanted in [(Layout::F32, false), (Layout::F32, true), (Layout::F16, false), (Layout::Bf16, false)] {
        assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
    }
}
