//! From what stands out to a verdict.

use super::columns::{ColumnBounds, ColumnLooks};
use super::further_looks::{FurtherLooks, Weighed};
use super::shift::ShiftLooks;
use super::table::{FEWEST_CLASSES, SUSPICIOUS_BELOW, Table};
use crate::attack::Attack;
use crate::detection::Verdict;
use crate::look::{Look, Method};

/// What the sizes of the pairs come to.
pub struct PairDetection {
    /// What was found.
    pub attacks: Vec<Attack>,
    /// The way to it.
    pub looks: Vec<Look>,
}

impl Table {
    /// The verdict on all pairs of the classes called `names`. `columns` holds the further looks at the columns that [`standing_out`](Self::standing_out) names, which are judged by
    /// `bounds`, `shift` those at the one that [`shift_standing_out`](Self::shift_standing_out) does, and `pairs` those at the pairs that are [`suspicious`](Self::suspicious).
    pub fn judge(
        &self,
        names: &[String],
        bounds: ColumnBounds,
        columns: &[ColumnLooks],
        shift: Option<&ShiftLooks>,
        pairs: &[FurtherLooks],
    ) -> PairDetection {
        if !self.is_complete() {
            return PairDetection { attacks: Vec::new(), looks: vec![self.incomplete()] };
        }
        let mut attacks = Vec::new();
        let mut looks = Vec::new();
        for column in columns {
            if column.verdict(bounds) == Verdict::Backdoored {
                attacks.push(Attack::AllToOne { target: column.target });
            }
            looks.push(column.look(&names[column.target], bounds));
        }
        let of_pairs: Vec<Look> = pairs.iter().map(|looks| self.look_at_pair(looks, names, bounds)).collect();
        let is_flagged = |(_, look): &(&FurtherLooks, &Look)| look.verdict == Verdict::Backdoored;
        let mut flagged: Vec<(usize, usize)> =
            pairs.iter().zip(&of_pairs).filter(is_flagged).map(|(looks, _)| looks.pair).collect();
        if let Some(looks_at_shift) = shift {
            let (shift, look) = (looks_at_shift.shift, looks_at_shift.look());
            if look.verdict == Verdict::Backdoored {
                attacks.push(Attack::AllToAll { shift });
                flagged.retain(|&pair| !self.is_on(shift, pair));
            }
            looks.push(look);
        }
        attacks.extend(flagged.into_iter().map(|(source, target)| Attack::SourceSpecific { source, target }));
        looks.extend(of_pairs);
        if looks.is_empty() {
            looks.push(self.nothing(names));
        }
        attacks.sort_unstable();
        PairDetection { attacks, looks }
    }

    fn incomplete(&self) -> Look {
        let classes = self.polished.rows.len();
        let words = if classes < FEWEST_CLASSES {
            format!("{classes} classes are too few to compare their pairs: at least {FEWEST_CLASSES} are needed")
        } else {
            format!(
                "a trigger was found for only {} of {} pairs of classes, too few to compare: try more steps or more samples",
                self.converged, self.pairs
            )
        };
        Look { words, ..Look::by(Method::Pair, Verdict::Inconclusive, None) }
    }

    fn look_at_pair(&self, looks: &FurtherLooks, names: &[String], columns: ColumnBounds) -> Look {
        let (source, target) = looks.pair;
        let first = self.score(source, target).unwrap_or(f64::INFINITY);
        let one_way = self.one_way(source, target).unwrap_or(f64::INFINITY);
        let Weighed { further, confined, verdict, words, .. } = looks.weigh(one_way, self.bounds_times(source));
        let (verdict, conclusion) = match verdict {
            Verdict::Clean => (verdict, "not flagged"),
            Verdict::Inconclusive => (verdict, "undecided"),
            Verdict::Backdoored if self.confused[[source, target]] => {
                (Verdict::Inconclusive, "undecided, for the model confuses the two without any trigger")
            }
            // Where all others are sent to the source by a small trigger, the way back says nothing of how alike the two are; and a class that all others are near to is near in one place,
            // too.
            Verdict::Backdoored
                if [source, target].iter().any(|&class| self.column(class) < columns.suspicious_below) =>
            {
                (Verdict::Inconclusive, "undecided, for all classes are near to one of the two")
            }
            Verdict::Backdoored => (verdict, "flagged"),
        };
        let words = format!(
            "images of class {} go to class {} by a trigger of {}: a score of {first:.2}, {words}: {conclusion}",
            names[source],
            names[target],
            self.in_words(source, target)
        );
        let (source, target) = (Some(source), Some(target));
        Look { source, target, further, confined, words, ..Look::by(Method::Pair, verdict, Some(first)) }
    }

    /// How small the trigger of a pair is, and how much it makes the images alike.
    fn in_words(&self, source: usize, target: usize) -> String {
        let one_way = self.one_way(source, target).unwrap_or(f64::NAN);
        let size = format!("{one_way:.2} times the size that the two lead to expect");
        match self.likeness(source, target) {
            Some(likeness) => format!("{size}, which makes the images {likeness:.2} times as alike as is usual"),
            None => size,
        }
    }

    fn nothing(&self, names: &[String]) -> Look {
        let Some((score, (source, target))) = self.unexplained().min_by(|a, b| a.0.total_cmp(&b.0)) else {
            return self.incomplete();
        };
        let words = format!(
            "no pair of classes stands out (the lowest score, of {} to {}, is {score:.2}, not under {SUSPICIOUS_BELOW:.2}, by a trigger of {}), \
             no target does, and no shift",
            names[source],
            names[target],
            self.in_words(source, target)
        );
        Look {
            source: Some(source),
            target: Some(target),
            words,
            ..Look::by(Method::Pair, Verdict::Clean, Some(score))
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::inversion::Norm;
    use crate::look;
    use crate::pairs::further_looks::Found;

    const N: usize = 10;

    /// Sizes about 60, by row, column and a little of their own.
    fn natural() -> Array2<Option<f64>> {
        let effect = |i: usize, step: usize| 0.25 * ((i * step % N) as f64 / N as f64 - 0.45);
        let own = |i: usize, j: usize| 0.03 * ((i * i * 3 + j * j * 5 + i * j * 7) % 11) as f64 - 0.15;
        Array2::from_shape_fn((N, N), |(i, j)| (i != j).then(|| 60.0 * (effect(i, 3) + effect(j, 7) + own(i, j)).exp()))
    }

    fn shrink(sizes: &mut Array2<Option<f64>>, pair: (usize, usize), share: f64) {
        sizes[pair] = sizes[pair].map(|norm| share * norm);
    }

    /// The sizes of further looks are those of the first times a factor, and confined triggers for single targets are as large as the first.
    fn judged(sizes: &Array2<Option<f64>>, factor: f64) -> PairDetection {
        let table = Table::new(sizes, N * (N - 1));
        let names: Vec<String> = (0..N).map(|i| i.to_string()).collect();
        let bounds = ColumnBounds::of(Norm::L2);
        let column = |target| {
            let share = |source| sizes[[source, target]].map(|size| table.share_of_usual(source, size));
            let confined = (0..N).filter(|&source| source != target).map(share).collect();
            ColumnLooks { target, share: table.column(target), confined }
        };
        let columns: Vec<ColumnLooks> = table.standing_out(bounds).into_iter().map(column).collect();
        let attacked: Vec<usize> = (columns.iter())
            .filter(|column| column.verdict(bounds) == Verdict::Backdoored)
            .map(|column| column.target)
            .collect();
        let shift = table.shift_standing_out().map(|(shift, below)| {
            let confined = (0..N).map(|source| table.one_way(source, (source + shift) % N)).collect();
            ShiftLooks { shift, below, confined }
        });
        let is_accounted_for = |pair: (usize, usize)| {
            attacked.contains(&pair.1) || shift.as_ref().is_some_and(|shift| table.is_on(shift.shift, pair))
        };
        let looks = |pair| {
            let first = Found::of_size(sizes[pair].unwrap());
            let further = Found { size: first.size * factor, ..first };
            FurtherLooks { whole: vec![Some(further); 2], ..FurtherLooks::new(pair, first) }
        };
        let looks: Vec<FurtherLooks> = table.suspicious(&[], is_accounted_for).into_iter().map(looks).collect();
        table.judge(&names, bounds, &columns, shift.as_ref(), &looks)
    }

    #[test]
    fn pairs_that_are_somewhat_small_are_looked_at_again_the_smallest_first_and_no_more_than_six() {
        let mut sizes = natural();
        let none: [(usize, usize); 0] = [];
        assert_eq!(Table::new(&sizes, N * (N - 1)).suspicious(&[], |_| false), none);
        let small = [(0, 1), (1, 4), (2, 7), (3, 0), (4, 3), (5, 6), (6, 9), (7, 5)];
        (0..).zip(small).for_each(|(i, pair)| shrink(&mut sizes, pair, 0.6 * 0.75_f64.powi(i)));
        let mut smallest_first = small[2..].to_vec();
        smallest_first.reverse();
        assert_eq!(Table::new(&sizes, N * (N - 1)).suspicious(&[], |_| false), smallest_first);
    }

    #[test]
    fn a_pair_of_usual_size_that_is_small_in_a_window_is_looked_at_again() {
        let table = Table::new(&natural(), N * (N - 1));
        let candidates = table.candidates(|_| false);
        assert_eq!(candidates.len(), 24);
        let scores: Vec<f64> =
            candidates.iter().map(|&(source, target)| table.score(source, target).unwrap()).collect();
        assert!(scores.is_sorted() && scores[0] > SUSPICIOUS_BELOW, "{scores:?}");

        let in_window = |small: usize| -> Vec<FurtherLooks> {
            let look = |(i, &pair): (usize, &(usize, usize))| {
                let first = Found::of_size(natural()[pair].unwrap());
                let share = (0.95 - 0.1 * i as f64) / table.one_way(pair.0, pair.1).unwrap();
                let confined = (i < small).then_some(Found { size: first.size * share, ..first });
                FurtherLooks { confined: vec![confined], ..FurtherLooks::new(pair, first) }
            };
            candidates.iter().enumerate().map(look).collect()
        };
        let smallest_first = |pairs: &[(usize, usize)]| pairs.iter().rev().copied().collect::<Vec<_>>();
        assert_eq!(table.suspicious(&in_window(0), |_| false), [(0, 0); 0]);
        assert_eq!(table.suspicious(&in_window(4), |_| false), smallest_first(&candidates[2..4]));
        assert_eq!(table.suspicious(&in_window(8), |_| false), smallest_first(&candidates[2..8]));
        // All that a column accounts for is left out.
        let is_of_column = |pair: (usize, usize)| pair.1 == candidates[3].1;
        assert!(!table.suspicious(&in_window(8), is_of_column).into_iter().any(is_of_column));
        assert!(!table.candidates(is_of_column).into_iter().any(is_of_column));
    }

    #[test]
    fn a_pair_to_which_the_model_leans_is_looked_at_sooner_and_none_later() {
        let mut sizes = natural();
        shrink(&mut sizes, (0, 1), 0.5);
        let suspicious = |pair: (usize, usize), ratio: f64| {
            let mut ratios = Array2::from_elem((N, N), Some(0.8));
            ratios[pair] = Some(ratio);
            Table::new(&sizes, N * (N - 1)).with_margin_ratios(ratios).suspicious(&[], |_| false)
        };
        assert_eq!(suspicious((4, 7), 0.7), [(0, 1)]);
        assert_eq!(suspicious((4, 7), 0.2), [(4, 7), (0, 1)]);
        assert_eq!(suspicious((0, 1), 2.0), [(0, 1)]);
    }

    #[test]
    fn natural_spread_is_clean() {
        let found = judged(&natural(), 1.0);
        assert_eq!((found.attacks.len(), look::verdict(&found.looks)), (0, Verdict::Clean));
        assert!(found.looks[0].words.contains("no pair of classes stands out"), "{}", found.looks[0].words);
    }

    #[test]
    fn a_cell_is_a_source_specific_attack_if_further_seeds_confirm_it() {
        let mut sizes = natural();
        shrink(&mut sizes, (4, 7), 0.1);
        let found = judged(&sizes, 1.1);
        assert_eq!(found.attacks, [Attack::SourceSpecific { source: 4, target: 7 }]);
        assert_eq!(found.looks.len(), 1);
        assert!(found.looks[0].words.contains("class 4 go to class 7"), "{}", found.looks[0].words);
        assert_eq!(look::verdict(&judged(&sizes, 5.0).looks), Verdict::Clean);
        // What it takes to bring the mean of all three between the bounds.
        let between = (0.2 / found.looks[0].figure.unwrap()).powf(1.5);
        assert_eq!(look::verdict(&judged(&sizes, between).looks), Verdict::Inconclusive);
    }

    #[test]
    fn classes_that_the_model_confuses_in_either_direction_are_no_attack() {
        let mut sizes = natural();
        shrink(&mut sizes, (4, 7), 0.3);
        let table = |sizes: &Array2<Option<f64>>, pair: (usize, usize), share: f64| {
            let mut confusion = Array2::zeros((N, N));
            confusion[pair] = share;
            Table::new(sizes, N * (N - 1)).with_confusion(&confusion)
        };
        let suspicious = |pair, share| table(&sizes, pair, share).suspicious(&[], |_| false);
        assert_eq!(suspicious((4, 7), 0.09), [(4, 7)]);
        assert_eq!([suspicious((4, 7), 0.1), suspicious((7, 4), 0.1)], [vec![], vec![]]);

        // A tiny trigger is no evidence either way.
        shrink(&mut sizes, (4, 7), 0.2);
        let table = table(&sizes, (4, 7), 0.5);
        assert_eq!(table.suspicious(&[], |_| false), [(4, 7)]);
        let names: Vec<String> = (0..N).map(|i| i.to_string()).collect();
        let found = Found::of_size(sizes[(4, 7)].unwrap());
        let again = FurtherLooks { whole: vec![Some(found); 2], ..FurtherLooks::new((4, 7), found) };
        let found = table.judge(&names, ColumnBounds::of(Norm::L2), &[], None, &[again]);
        assert_eq!((found.attacks, look::verdict(&found.looks)), (vec![], Verdict::Inconclusive));
        assert!(found.looks[0].words.ends_with("the model confuses the two without any trigger"));
    }

    /// Its column is small, but not in one place; one of its pairs is, and means little.
    #[test]
    fn a_pair_whose_target_all_classes_are_near_to_is_not_flagged() {
        let mut sizes = natural();
        (0..N).for_each(|source| shrink(&mut sizes, (source, 3), 0.4));
        shrink(&mut sizes, (6, 3), 0.1);
        let table = Table::new(&sizes, N * (N - 1));
        let (names, bounds) = ((0..N).map(|i| i.to_string()).collect::<Vec<_>>(), ColumnBounds::of(Norm::L2));
        let columns = [ColumnLooks { target: 3, share: table.column(3), confined: vec![None; N - 1] }];
        let found = Found::of_size(sizes[(6, 3)].unwrap());
        let again = |pair| FurtherLooks { whole: vec![Some(found); 2], ..FurtherLooks::new(pair, found) };
        assert_eq!((table.standing_out(bounds), table.suspicious(&[], |_| false)), (vec![3], vec![(6, 3)]));
        let found = table.judge(&names, bounds, &columns, None, &[again((6, 3))]);
        assert_eq!((found.attacks, look::verdict(&found.looks)), (vec![], Verdict::Inconclusive));
        assert!(found.looks[1].words.ends_with("all classes are near to one of the two"), "{}", found.looks[1].words);
    }

    #[test]
    fn classes_that_are_near_in_both_directions_are_alike_and_no_attack() {
        let mut sizes = natural();
        shrink(&mut sizes, (4, 7), 0.3);
        shrink(&mut sizes, (7, 4), 0.35);
        assert_eq!(look::verdict(&judged(&sizes, 1.0).looks), Verdict::Clean);
    }

    #[test]
    fn a_trigger_that_makes_classes_alike_is_natural_and_one_that_does_not_is_foreign() {
        let mut sizes = natural();
        shrink(&mut sizes, (4, 7), 0.3);
        let verdict = |share: f64| {
            let mut likeness = Array2::from_elem((N, N), Some(1.0));
            likeness[[4, 7]] = Some(share);
            let table = Table::new(&sizes, N * (N - 1)).with_likeness(likeness);
            let found = Found { likeness: Some(share), ..Found::of_size(sizes[(4, 7)].unwrap()) };
            let looks = |pair| FurtherLooks { whole: vec![Some(found); 2], ..FurtherLooks::new(pair, found) };
            let looks: Vec<FurtherLooks> = table.suspicious(&[], |_| false).into_iter().map(looks).collect();
            let names: Vec<String> = (0..N).map(|i| i.to_string()).collect();
            table.judge(&names, ColumnBounds::of(Norm::L2), &[], None, &looks)
        };
        assert_eq!(look::verdict(&verdict(0.9).looks), Verdict::Clean);
        let foreign = verdict(0.05);
        assert_eq!(foreign.attacks, [Attack::SourceSpecific { source: 4, target: 7 }]);
        assert!(foreign.looks[0].words.contains("0.05 times as alike as is usual"), "{}", foreign.looks[0].words);
    }

    /// Judges a pair by looks that all find triggers of one size.
    fn judged_by_size(table: &Table, sizes: &Array2<Option<f64>>, pair: (usize, usize)) -> PairDetection {
        let names: Vec<String> = (0..sizes.nrows()).map(|i| i.to_string()).collect();
        let found = Found::of_size(sizes[pair].unwrap());
        let alike = vec![Some(found); 2];
        let again = FurtherLooks { whole: alike.clone(), confined: alike, ..FurtherLooks::new(pair, found) };
        table.judge(&names, ColumnBounds::of(Norm::L2), &[], None, &[again])
    }

    /// Of more pairs some are alike by chance.
    #[test]
    fn of_many_pairs_one_must_stand_out_further() {
        let verdict = |share: f64, pairs: usize| {
            let mut sizes = Array2::from_shape_fn((N, N), |(i, j)| (i != j).then_some(60.0));
            shrink(&mut sizes, (5, 3), share);
            let mut table = Table::new(&sizes, pairs);
            table.converged = pairs;
            look::verdict(&judged_by_size(&table, &sizes, (5, 3)).looks)
        };
        assert_eq!(
            [20, 90, 360].map(|pairs| verdict(0.12, pairs)),
            [Verdict::Backdoored, Verdict::Backdoored, Verdict::Clean]
        );
        assert_eq!(
            [90, 360, 1440].map(|pairs| verdict(0.08, pairs)),
            [Verdict::Backdoored, Verdict::Backdoored, Verdict::Clean]
        );
        assert_eq!(verdict(0.095, 360), Verdict::Inconclusive);
    }

    #[test]
    fn where_a_source_has_few_images_a_pair_must_stand_out_further() {
        let mut sizes = natural();
        shrink(&mut sizes, (5, 3), 0.1);
        let verdict = |images: usize| {
            let mut of_classes = vec![40; N];
            of_classes[5] = images;
            let table = Table::new(&sizes, N * (N - 1)).with_images(of_classes);
            assert_eq!(table.bounds_times(4), 1.0);
            look::verdict(&judged_by_size(&table, &sizes, (5, 3)).looks)
        };
        assert_eq!([40, 16, 8].map(verdict), [Verdict::Backdoored, Verdict::Backdoored, Verdict::Clean]);
    }

    #[test]
    fn a_column_is_an_attack_of_all_to_one() {
        let mut sizes = natural();
        (0..N).for_each(|source| shrink(&mut sizes, (source, 3), 0.15));
        assert_eq!(judged(&sizes, 1.0).attacks, [Attack::AllToOne { target: 3 }]);
        // One of them may be easier still.
        shrink(&mut sizes, (6, 3), 0.1);
        assert_eq!(judged(&sizes, 1.0).attacks, [Attack::AllToOne { target: 3 }]);
    }

    #[test]
    fn a_shifted_diagonal_is_an_attack_of_all_to_all_even_with_gaps() {
        let mut sizes = natural();
        (0..7).for_each(|source| shrink(&mut sizes, (source, (source + 2) % N), 0.35));
        let found = judged(&sizes, 1.0);
        assert_eq!(found.attacks, [Attack::AllToAll { shift: 2 }], "{}", look::reason(&found.looks));
        shrink(&mut sizes, (9, 4), 0.1);
        assert_eq!(
            judged(&sizes, 1.0).attacks,
            [Attack::SourceSpecific { source: 9, target: 4 }, Attack::AllToAll { shift: 2 }]
        );
    }

    #[test]
    fn a_diagonal_that_is_low_without_being_lowest_is_an_attack() {
        let mut sizes = natural();
        for source in 0..N {
            shrink(&mut sizes, (source, (source + 2) % N), 0.55);
        }
        for source in [0, 2, 4, 6, 8] {
            shrink(&mut sizes, (source, (source + [3, 4, 5, 4, 3][source / 2]) % N), 0.35);
        }
        let table = Table::new(&sizes, N * (N - 1));
        let lowest = |source: usize| {
            let of = |target: &usize| table.score(source, *target).unwrap_or(f64::INFINITY);
            (0..N).min_by(|a, b| of(a).total_cmp(&of(b))).unwrap()
        };
        assert!((0..N).filter(|&source| lowest(source) == (source + 2) % N).count() <= N / 2);
        assert_eq!(judged(&sizes, 5.0).attacks, [Attack::AllToAll { shift: 2 }]);
    }

    #[test]
    fn a_few_tiny_triggers_on_one_diagonal_are_no_shift() {
        let mut sizes = natural();
        let tiny = [(1, 3), (4, 6), (7, 9)];
        tiny.iter().for_each(|&pair| shrink(&mut sizes, pair, 0.01));
        let attacks = tiny.map(|(source, target)| Attack::SourceSpecific { source, target });
        assert_eq!(judged(&sizes, 1.0).attacks, attacks);
    }

    /// Of many pairs those are searched to the end that might be an attack together, though none is by itself.
    #[test]
    fn a_verdict_rests_on_the_pairs_of_a_shift_that_might_stand_out_and_on_those_that_are_looked_at_in_a_window() {
        let mut sizes = natural();
        let decisive = |table: &Table| table.decisive(ColumnBounds::of(Norm::L2));
        let on_shift: Vec<(usize, usize)> = (0..N).map(|source| (source, (source + 2) % N)).collect();
        let table = Table::new(&sizes, N * (N - 1));
        let mut candidates = table.candidates(|_| false);
        candidates.sort_unstable();
        assert_eq!(decisive(&table), candidates);
        assert!(!candidates.contains(&(4, 7)));
        let mut ratios = Array2::from_elem((N, N), Some(0.8));
        ratios[(4, 7)] = Some(0.1);
        assert!(decisive(&table.with_margin_ratios(ratios)).contains(&(4, 7)), "the model leans there");
        on_shift.iter().for_each(|&pair| shrink(&mut sizes, pair, 0.81));
        let shifted = decisive(&Table::new(&sizes, N * (N - 1)));
        assert!(on_shift.iter().all(|pair| shifted.contains(pair)), "{shifted:?}");
    }

    /// Where nearly all are as usual, what deviates by chance is no shift, whatever share of the deviation it has.
    #[test]
    fn a_few_small_triggers_on_one_diagonal_are_no_shift() {
        let mut sizes = Array2::from_shape_fn((N, N), |(i, j)| (i != j).then_some(60.0));
        shrink(&mut sizes, (1, 3), 0.1);
        shrink(&mut sizes, (4, 6), 0.5);
        let found = judged(&sizes, 1.0);
        assert_eq!(found.attacks, [Attack::SourceSpecific { source: 1, target: 3 }]);
    }

    /// Zero and five, one and six and so on: natural likenesses in both directions.
    #[test]
    fn classes_that_are_alike_in_twos_are_no_shift() {
        let mut sizes = natural();
        (0..N).for_each(|source| shrink(&mut sizes, (source, (source + N / 2) % N), 0.5));
        let found = judged(&sizes, 1.0);
        assert_eq!((found.attacks.len(), look::verdict(&found.looks)), (0, Verdict::Clean));
    }

    #[test]
    fn too_few_classes_or_triggers_allow_no_conclusion() {
        let few = Table::new(&Array2::from_shape_fn((4, 4), |(i, j)| (i != j).then_some(50.0)), 12);
        let names: Vec<String> = (0..N).map(|i| i.to_string()).collect();
        let found = few.judge(&names, ColumnBounds::of(Norm::L2), &[], None, &[]);
        assert_eq!(found.looks[0].verdict, Verdict::Inconclusive);
        assert!(found.looks[0].words.contains("4 classes are too few"), "{}", found.looks[0].words);
        let mut sizes = natural();
        sizes.slice_mut(ndarray::s![5.., ..]).fill(None);
        let found = judged(&sizes, 1.0);
        assert!(found.looks[0].words.contains("only 45 of 90 pairs"), "{}", found.looks[0].words);
    }
}
