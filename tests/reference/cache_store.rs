//! Twin of `shaders/cache_store.wgsl`, and what the words of a q8 cache are worth.

/// A key or value as it is stored.
pub struct Row {
    /// One for 16 numbers, the last for what is left.
    pub scales: Vec<f64>,
    /// What is rounded to the codes.
    pub ratios: Vec<f64>,
}

/// `centre`: what is taken from the row before.
pub fn quantize(row: &[f64], centre: Option<&[f64]>) -> Row {
    let row: Vec<f64> = match centre {
        Some(centre) => row.iter().zip(centre).map(|(x, c)| x - c).collect(),
        None => row.to_vec(),
    };
    let mut stored = Row { scales: Vec::new(), ratios: Vec::new() };
    for group in row.chunks(16) {
        let scale = group.iter().fold(0.0, |top: f64, x| top.max(x.abs())) / 127.0;
        stored.ratios.extend(group.iter().map(|x| if scale == 0.0 { 0.0 } else { x / scale }));
        stored.scales.push(scale);
    }
    stored
}

impl Row {
    /// `dim / 4` words of codes, then the scales.
    pub fn words(&self) -> Vec<u32> {
        let code = |ratio: &f64| u32::from(ratio.round_ties_even() as i8 as u8);
        let codes = self.ratios.chunks(4).map(|four| four.iter().rev().fold(0, |word, ratio| word << 8 | code(ratio)));
        codes.chain(self.scales.iter().map(|scale| (*scale as f32).to_bits())).collect()
    }
}

/// The numbers that the words of a row stand for.
pub fn decode(words: &[u32], dim: usize) -> Vec<f64> {
    let number = |i: usize| {
        let code = (words[i / 4] >> (8 * (i % 4))) as u8 as i8;
        f64::from(code) * f64::from(f32::from_bits(words[dim / 4 + i / 16]))
    };
    (0..dim).map(number).collect()
}
