//! A picture in any format, within a memory that its size explains.
#![no_main]

use fanlight::image::{Still, decode, size};
use fanlight_fuzz::within;
use libfuzzer_sys::fuzz_target;

/// Larger pictures are left out, so that one input does not take the time of a thousand.
const MOST_PIXELS: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    // Reading a header may not depend on what the rest of the file claims to be.
    let Ok((width, height)) = within(64 * input.len() + (4 << 20), || size(input)) else { return };
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MOST_PIXELS {
        return;
    }
    // Components, coefficients, the picture, and a turned copy: 32 bytes a pixel, whose sides may be filled up to blocks of 32.
    let whole = u64::from(width + 32) * u64::from(height + 32);
    within(64 * input.len() + (4 << 20) + 32 * whole as usize, || {
        let Ok(picture) = decode(input) else { return };
        assert_eq!(picture.rgb.len() as u64, pixels * 3);
        assert_eq!(u64::from(picture.width) * u64::from(picture.height), pixels);
        let still = Still::open(input.to_vec()).expect("what was decoded before");
        assert_eq!(still.picture().expect("what was decoded before").rgb, picture.rgb);
    });
});
