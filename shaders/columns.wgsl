// parts: shared/grid, columns
//
// y[to + r, first + c] = x[c, from + r]  for r < count, c < n; the rest of y is unchanged.
// Transposes columns of a packed layer into rows of a weight. A tile in shared memory lets neighbouring threads both read and
// write neighbouring words.
//
// x: [n, rows] u32    y: [.., stride] u32
// dispatch: linear, a workgroup per tile of 16 rows and 16 columns; tiles of the same columns follow each other.
struct Params {
    n: u32,
    rows: u32,
    from_row: u32,
    to_row: u32,
    count: u32,
    stride: u32,
    first: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

// Rows are one word longer than a row of the tile, so that the words of a column are in different memory banks.
var<workgroup> tile: array<array<u32, 17>, 16>;

@compute @workgroup_size(16, 16)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let at = linear_group(group, groups);
    let wide = (params.count + 15u) / 16u;
    let row = at % wide * 16u;
    let column = at / wide * 16u;
    if (row + lane.x < params.count && column + lane.y < params.n) {
        tile[lane.y][lane.x] = x[(column + lane.y) * params.rows + params.from_row + row + lane.x];
    }
    workgroupBarrier();
    if (row + lane.y < params.count && column + lane.x < params.n) {
        y[(params.to_row + row + lane.y) * params.stride + params.first + column + lane.x] = tile[lane.x][lane.y];
    }
}
