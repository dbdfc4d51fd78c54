//! Generators that yield from the depth of a recursion, and two of them asked in turn.
//!
//! Type `cargo run --example generators`, and see the permutations of three letters, the words of a
//! tree in order, and two trees of different shapes that are found to have the same words.

use switchgrass::Generator;
use switchgrass::generator::Yielder;

/// Yields `letters` in every order that leaves the first `fixed` in place.
fn permutations(y: &Yielder<String>, letters: &mut [char], fixed: usize) {
    if fixed == letters.len() {
        y.yield_(letters.iter().collect());
    }
    for next in fixed..letters.len() {
        letters.swap(fixed, next);
        permutations(y, letters, fixed + 1);
        letters.swap(fixed, next);
    }
}

#[derive(Default)]
struct Tree {
    word: String,
    below: [Option<Box<Tree>>; 2],
}

impl Tree {
    fn of(words: &str) -> Tree {
        let mut words = words.split(' ');
        let mut tree = Tree { word: words.next().unwrap_or("").into(), ..Tree::default() };
        words.for_each(|word| tree.insert(word));
        tree
    }

    fn insert(&mut self, word: &str) {
        let side = usize::from(word > self.word.as_str());
        match &mut self.below[side] {
            Some(tree) => tree.insert(word),
            empty => *empty = Some(Box::new(Tree::of(word))),
        }
    }

    /// Yields every word, borrowed from the tree, in order.
    fn walk<'a>(&'a self, y: &Yielder<&'a str>) {
        let [smaller, larger] = &self.below;
        smaller.iter().for_each(|tree| tree.walk(y));
        y.yield_(&self.word);
        larger.iter().for_each(|tree| tree.walk(y));
    }
}

fn main() {
    let orders = Generator::new(|y| permutations(&y, &mut ['a', 'b', 'c'], 0));
    println!("permutations: {}", orders.collect::<Vec<_>>().join(" "));

    // A generator that borrows lives within a call.
    let (lopsided, balanced) = (Tree::of("a b c d e f g"), Tree::of("d b f a c e g"));
    let first = Generator::scoped(|y| lopsided.walk(&y), |words| words.take(3).collect::<Vec<_>>());
    println!("the first three words: {}", first.expect("a stack").join(" "));

    // Each is in the middle of its recursion while the other is asked.
    let same = Generator::scoped(
        |y| lopsided.walk(&y),
        |left| Generator::scoped(|y| balanced.walk(&y), |right| left.eq(right)),
    );
    println!("the same words in both trees: {}", same.and_then(|same| same).expect("two stacks"));

    // Zipped, the endless one is dropped in the middle when the other has ended.
    let squares = Generator::new(|y| {
        for n in 1_u32.. {
            y.yield_(n * n);
        }
    });
    let letters = Generator::new(|y| "xyz".chars().for_each(|letter| y.yield_(letter)));
    for (letter, square) in letters.zip(squares) {
        println!("{letter} {square}");
    }
}
