//! Words that nobody should write. Whatever they are, decoding and planning end in a typed error or a valid program: no
//! panic, no endless loop, no allocation beyond a multiple of the words.

use super::testing::{Random, random_program};
use super::{MAGIC, Program, Stream};
use crate::error::Error;
use crate::plan::{Options, Plan};

/// How far the words of a corpus got.
#[derive(Default, Debug)]
struct Reached {
    streams: u32,
    headers: u32,
    /// More than half of the original instructions were accepted.
    deep: u32,
    valid: u32,
}

impl Reached {
    fn feed(&mut self, words: &[u32], random: &mut Random) {
        self.streams += 1;
        let stream = match Stream::parse(words) {
            Ok(stream) => stream,
            Err(error) => return assert!(matches!(error, Error::Program(_)), "{error}"),
        };
        self.headers += 1;
        assert_eq!(stream.scalars().map(f64::to_bits).count(), stream.scalars().len());
        match Program::decode(stream.code) {
            Ok(program) => {
                self.valid += 1;
                if let Err(error) = program.interface().check(&stream) {
                    assert!(matches!(error, Error::Program(_)), "{error}");
                }
                // Planning is not about words: a tenth will do.
                if random.chance(10) {
                    let plan = Plan::new(&program, Options { fuse: random.chance(80), ..Options::ALL }).unwrap();
                    assert!(plan.steps.len() <= program.instructions().len());
                    assert!(!format!("{program}{plan}").is_empty() || program.instructions().is_empty());
                }
            }
            Err(Error::Program(text)) => {
                assert!(text.starts_with("instruction "), "{text}");
                assert!(text.len() < 1000, "{text}");
                let number: u32 = text[12..].split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
                self.deep += u32::from(number >= 4);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// One change of a valid stream.
fn mutate(words: &mut Vec<u32>, random: &mut Random) {
    const ODD: [u32; 12] = [0, 1, 2, 7, 8, 9, 255, 0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    let length = words.len() as u32;
    let at = random.below(length) as usize;
    let other = random.below(length) as usize;
    match random.below(9) {
        0 | 1 => words[at] ^= 1 << random.below(32),
        2 => words[at] = random.pick(&ODD),
        3 => words.truncate(at),
        4 => words.swap(at, other),
        5 => words.insert(at, words[other]),
        6 => words[at] = words[other],
        7 => words[at] = words[at].wrapping_add(random.pick(&[1, u32::MAX])),
        _ => {
            words.remove(at);
        }
    }
}

/// Makes the header speak of the words that are there, so that changes of the code are looked at.
fn mend(words: &mut [u32]) {
    let length = words.len() as u32;
    if let [magic, inputs, outputs, frees, scalars, code, ..] = words {
        *magic = MAGIC;
        let before = 6_u32.wrapping_add(*inputs).wrapping_add(*outputs).wrapping_add(*frees).wrapping_add(*scalars * 2);
        if before <= length {
            *code = length - before;
        }
    }
}

#[test]
fn a_hundred_thousand_hostile_streams_end_in_errors_or_valid_programs() {
    let mut random = Random::new(2024);
    let mut reached = Reached::default();
    for _ in 0..6000 {
        let length = 4 + random.below(12);
        let valid = random_program(&mut random, length).stream();
        let before = reached.valid;
        reached.feed(&valid, &mut random);
        assert_eq!(reached.valid, before + 1, "the original is valid");
        for _ in 0..16 {
            let mut words = valid.clone();
            for _ in 0..=random.below(3) {
                if !words.is_empty() {
                    mutate(&mut words, &mut random);
                }
            }
            if random.chance(80) && words.len() > 6 && words[1..5].iter().all(|&n| n < 1 << 16) {
                mend(&mut words);
            }
            reached.feed(&words, &mut random);
        }
    }
    // The corpus is not refused at the door.
    assert!(reached.streams > 100_000, "{reached:?}");
    assert!(reached.headers > reached.streams / 2, "{reached:?}");
    assert!(reached.deep > reached.streams / 10, "{reached:?}");
    assert!(reached.valid > reached.streams / 10, "{reached:?}");
}

#[test]
fn random_words_are_refused() {
    let mut random = Random::new(5);
    let mut reached = Reached::default();
    for round in 0..20_000 {
        let length = random.below(64) as usize;
        let mut words: Vec<u32> = (0..length).map(|_| random.next() as u32 >> random.below(33).min(31)).collect();
        if round % 2 == 0 && length > 6 {
            words[..6].copy_from_slice(&[MAGIC, 0, 0, 0, 0, length as u32 - 6]);
        }
        reached.feed(&words, &mut random);
    }
    assert!(reached.headers > 5000, "{reached:?}");
}

#[test]
fn headers_may_lie() {
    let mut random = Random::new(6);
    for counts in [[u32::MAX; 5], [1 << 31, 0, 0, 1 << 31, 0], [0, 0, 0, 0x8000_0000, 0], [0, 0, 0, 0, 0xffff_ffff]] {
        let mut words = vec![MAGIC];
        words.extend(counts);
        words.extend([0; 32]);
        assert!(Stream::parse(&words).is_err());
        Reached::default().feed(&words, &mut random);
    }
    assert!(Stream::parse(&[]).is_err());
    assert!(Stream::parse(&[MAGIC, 0, 0, 0, 0]).is_err());
    assert!(Stream::parse(&[MAGIC + 1, 0, 0, 0, 0, 0]).is_err());
    assert_eq!(Program::decode(Stream::parse(&[MAGIC, 0, 0, 0, 0, 0]).unwrap().code).unwrap().registers().len(), 0);
}

#[test]
fn too_much_code_is_refused_before_it_is_read() {
    let code = vec![0; super::MAX_CODE_WORDS + 1];
    assert!(Program::decode(&code).unwrap_err().message().contains("more than"));
    // As many inputs as fit, and one more.
    let one = [3 << 16, 1, 0];
    let code = one.repeat(super::MAX_REGISTERS + 1);
    assert!(Program::decode(&code).unwrap_err().message().contains("more than"));
    assert_eq!(Program::decode(&code[3..]).unwrap().registers().len(), super::MAX_REGISTERS);
}

#[test]
fn a_large_program_is_planned_in_good_time() {
    let mut random = Random::new(9);
    let writer = random_program(&mut random, 20_000);
    let start = std::time::Instant::now();
    let program = Program::decode(&writer.code).unwrap();
    let plan = Plan::new(&program, Options::ALL).unwrap();
    assert!(plan.steps.len() > 1000);
    // Milliseconds; a quadratic step would take minutes.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
