"""M-RoPE positions as the fact sheet states them, to hold transformers' own numbers against."""


def reference_positions(types, grids, merge=2, time=lambda medium, k: k):
    """Positions of a sequence of text (0), image (1) and video (2) tokens. `grids`: (frames, patch rows, patch columns) of each
    medium in their order, frames 1 for an image and for Qwen3-VL, which has a grid for every frame. `time(medium, k)`: how far frame
    k of a video lies behind its start on the time axis. What follows a medium stands one past its largest position."""
    t, h, w, cur, i = [], [], [], 0, 0
    todo = list(grids)
    while i < len(types):
        if not types[i]:
            t.append(cur), h.append(cur), w.append(cur)
            cur, i = cur + 1, i + 1
            continue
        frames, gh, gw = todo.pop(0)
        times = [time(len(grids) - len(todo) - 1, k) for k in range(frames)]
        rows, cols = gh // merge, gw // merge
        assert all(one == types[i] for one in types[i:i + frames * rows * cols])
        assert frames == 1 or types[i] == 2
        for k in times:
            for r in range(rows):
                for c in range(cols):
                    t.append(cur + k), h.append(cur + r), w.append(cur + c)
        cur, i = cur + max(times[-1] + 1, rows, cols), i + frames * rows * cols
    assert not todo
    return [t, h, w], max(t + h + w) + 1 - len(types)


def make():
    """positions.json and windows.json, both straight from transformers' functions."""
    import torch
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
    from transformers.vision_utils import get_vision_window_index

    from .common import ROOT, write_json

    # get_rope_index needs nothing of the model but its configuration.
    class Bare:
        config = Qwen2_5_VLConfig(vision_config={"tokens_per_second": 2})
        get_vision_position_ids = Qwen2_5_VLModel.get_vision_position_ids
        get_rope_index = Qwen2_5_VLModel.get_rope_index

    # A layout: runs of text (a number) and pictures ([patch rows, patch columns]). Two pictures never touch: there is
    # always <|vision_end|><|vision_start|> between them.
    layouts = [
        [1], [7], [[2, 2]], [[2, 2], 1], [1, [2, 2]], [1, [2, 2], 1], [5, [4, 6], 3], [5, [6, 4], 3], [5, [4, 4], 3],
        [15, [6, 10], 12], [15, [10, 6], 12], [3, [2, 20], 4], [3, [20, 2], 4], [3, [2, 6], 1], [3, [14, 22], 2],
        [4, [8, 16], 2], [4, [16, 8], 2], [4, [8, 8], 2], [2, [2, 2], 2, [2, 2], 2], [2, [4, 6], 2, [6, 4], 2],
        [2, [10, 4], 5, [4, 4], 3, [2, 8], 7], [9, [4, 4], 2, [4, 4], 2, [4, 4], 2, [4, 4], 1],
        [20, [6, 6], 30, [10, 12], 25], [1, [2, 2], 2, [12, 2], 2, [2, 12], 2, [6, 6], 40],
        [3, [18, 10], 2, [10, 18], 3], [0, [4, 8], 0], [100, [4, 4], 1],
    ]
    rows = []
    for layout in layouts:
        types, grids = [], []
        for part in layout:
            if isinstance(part, int):
                types += [0] * part
            else:
                types += [1] * (part[0] * part[1] // 4)
                grids.append([1, *part])
        if grids:
            ids = torch.zeros((1, len(types)), dtype=torch.long)
            positions, delta = Bare().get_rope_index(ids, mm_token_type_ids=torch.tensor([types]),
                                                     image_grid_thw=torch.tensor(grids))
            positions, delta = positions[:, 0].tolist(), int(delta)
        else:  # without pictures transformers counts on its own: 0, 1, 2 .. on all axes
            positions, delta = [list(range(len(types)))] * 3, 0
        assert (positions, delta) == reference_positions(types, grids), layout
        rows.append({"layout": layout, "t": positions[0], "h": positions[1], "w": positions[2], "rope_delta": delta})
    write_json(ROOT / "positions.json", rows)

    windows = []
    for window, grids in (
        (112, [[1, 2, 2]]), (112, [[1, 6, 10]]), (112, [[1, 10, 6]]), (112, [[1, 8, 8]]), (112, [[1, 8, 16]]),
        (112, [[1, 16, 8]]), (112, [[1, 4, 10]]), (112, [[1, 10, 18]]), (112, [[1, 14, 22]]), (112, [[1, 18, 10]]),
        (112, [[1, 2, 50]]), (112, [[1, 50, 2]]), (112, [[1, 24, 24]]), (112, [[1, 26, 18]]), (112, [[2, 4, 10]]),
        (112, [[3, 6, 10]]), (112, [[1, 6, 10], [1, 8, 8]]), (112, [[1, 2, 2], [1, 10, 18], [1, 4, 6]]),
        (112, [[1, 8, 8], [1, 8, 16], [1, 10, 2]]), (112, [[1, 6, 10]] * 3), (56, [[1, 6, 10]]), (56, [[1, 8, 8]]),
        (84, [[1, 6, 10]]), (84, [[1, 14, 22]]), (84, [[1, 12, 18], [1, 6, 6]]), (28, [[1, 4, 6]]), (140, [[1, 12, 22]]),
        (448, [[1, 10, 18]]),
    ):
        grid = torch.tensor(grids)
        index, cu = get_vision_window_index(grid, spatial_merge_size=2, window_size=window, patch_size=14)
        full = [0]
        for t, h, w in grids:
            full += [full[-1] + h * w * (k + 1) for k in range(t)]
        windows.append({"window_size": window, "patch_size": 14, "merge_size": 2, "grid_thw": grids,
                        "window_index": index.tolist(), "reverse_index": torch.argsort(index).tolist(),
                        "cu_window_seqlens": cu.tolist(), "cu_seqlens": full})
    write_json(ROOT / "windows.json", windows)
