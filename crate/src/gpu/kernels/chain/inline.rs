//! A chain inside another kernel: its operands, and a function that evaluates it, added to a shader that is being written.
//! Buffers of operands are called `in0`, `in1`, …; what the kernel hands over is called `given`.

use std::fmt::Write as _;

use super::super::shader::{Aligned, Builder, Memory, Type};
use super::{Fetch, Loads, Reads, coordinates, element, position};
use crate::error::Result;
use crate::plan::Chain;

/// Declares the operands of a chain but the one that is `given`, and
/// - `chain_one(at: u32, given: u32) -> Results`: the words `o0`, `o1`, … of the results for element `at`, or
/// - with `vectors`, `chain_four(i: u32, given: vec4<u32>) -> Four`: the same, as vectors, for elements `4 i` to
///   `4 i + 3`.
pub(in super::super) fn inline(
    chain: &Chain,
    given: Option<u8>,
    vectors: bool,
    aligned: Aligned,
    b: &mut Builder,
) -> Result<()> {
    let reads = Reads::of(chain);
    let scalars = reads.declare(chain, b);
    let mut loads = Loads::default();
    let mut one = String::new();
    for (i, (input, &fetch)) in chain.inputs.iter().zip(&reads.fetches).enumerate() {
        if given == Some(i as u8) {
            let _ = writeln!(loads.first, "let v{i} = given;");
            let _ = writeln!(one, "let v{i} = given;");
            continue;
        }
        let name = format!("in{i}");
        let vector = vectors && matches!(fetch, Fetch::Straight | Fetch::Row) && Builder::is_aligned(input, aligned);
        b.buffer(&name, Memory::Operand(*input), if vector { Type::Vec4U32 } else { Type::U32 });
        if vectors {
            loads.add(i, &name, fetch, vector, &reads.layout);
            continue;
        }
        let index = match fetch {
            Fetch::Uniform => "0u".to_owned(),
            Fetch::Straight => "at".to_owned(),
            Fetch::Row | Fetch::Column | Fetch::Scattered => position(&reads.layout, i),
        };
        let _ = writeln!(one, "let v{i} = {name}({index});");
    }
    b.item(&element(chain, &scalars)?);
    if vectors {
        b.item(&four(chain, &reads.four(&loads)));
    } else {
        let place = if reads.is_by_index() { coordinates("at", reads.layout.dims.len()) } else { String::new() };
        let arguments: Vec<_> = (0..chain.inputs.len()).map(|i| format!("v{i}")).collect();
        b.item(&format!(
            "fn chain_one(at: u32, given: u32) -> Results {{\n{place}{one}return element({});\n}}",
            arguments.join(", ")
        ));
    }
    Ok(())
}

fn four(chain: &Chain, body: &str) -> String {
    let outputs = 0..chain.outputs.len();
    let members: Vec<_> = outputs.clone().map(|o| format!("o{o}: vec4<u32>")).collect();
    let results: Vec<_> = outputs.map(|o| format!("vec4<u32>(rx.o{o}, ry.o{o}, rz.o{o}, rw.o{o})")).collect();
    format!(
        "struct Four {{ {} }}\nfn chain_four(i: u32, given: vec4<u32>) -> Four {{\n{body}return Four({});\n}}",
        members.join(", "),
        results.join(", ")
    )
}
