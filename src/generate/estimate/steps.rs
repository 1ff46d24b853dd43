//! The sizes that `auto` tries, from large to small.

/// From `from` down to `floor`, four steps for each halving, on multiples of `unit` in between.
pub(super) fn steps(from: usize, floor: usize, unit: usize) -> impl Iterator<Item = usize> {
    let between = (0..usize::BITS - 3).rev().flat_map(move |bit| (4..8).rev().map(move |n| n << bit));
    let between = between.filter(move |n| *n < from && *n > floor && n.is_multiple_of(unit));
    [from].into_iter().chain(between).chain((floor < from).then_some(floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_down_to_the_floor() {
        assert_eq!(steps(16384, 2048, 256).collect::<Vec<_>>()[..5], [16384, 14336, 12288, 10240, 8192]);
        assert_eq!(steps(3000, 2048, 256).collect::<Vec<_>>(), [3000, 2560, 2048]);
        assert_eq!(steps(700, 512, 1).collect::<Vec<_>>(), [700, 640, 512]);
        assert_eq!((steps(9, 9, 1).count(), steps(1, 5, 1).count()), (1, 1));
    }
}
