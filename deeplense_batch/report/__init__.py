"""The comparison of runs, made from the files of their run directories alone.

It loads no network and no images but the few that it shows. Open `collect` first, then `run_table`
(a run as a row) and `compare` (rows as models).

All that is written comes from one content, `results.json`, schema 2; a number that is not known is
null::

    schema       2
    made         when the newest run changed, UTC
    complete     whether all runs are done
    missing      a sentence where they are not, else empty
    counts       a sentence: how many runs are in each state
    copies       sentences: directories that hold a run which counts once (`copies`)
    rows         one a run, done or not: the columns of `run_table.COLUMNS`, auc_<class>, and
                 under "more" the scores that only its task has
    comparisons  one for each data digest, test slice, task, target and validation slice:
      number, heading, task, data, test, test_samples, classes, sentences, scored_recipes
      resampled  column, groups: where intervals resample groups of images
      score      name of the score that picks models: auc, r2
      more       names of the scores that only its task has
      models     the best by validation first:
        place, label, job, model, variant, runs (of how many seeds), run (that validation picks)
        valid_score, <score>_mean, _sd (n - 1), _min, _max     over the seeds
        <score>_low, _high, interval                           95%, and what it covers
        difference, _low, _high, p_value, resolved, visible,   to the best (`significance.infer`)
        seeds_needed, sample_sd, seed_sd
        bootstrap_p_value, seed_p_value                        other tests, of one noise alone
        delong                                                 by class: difference, error, p_value
        train_seconds, device, reference_hours, parameters_m, gflops, pareto
      ensembles  of the runs of each model (`studies.ensembles.ensembles`):
        label, members, runs, best_run, calibrated, valid_score
        <score>, _low, _high, ece_floor                        of auc, accuracy, ... on the test
        member_scores, best_score, mean_score                  of its members
        over_best, over_mean                                   gain, low, high, p_value, resolved
      figures    name (of the files), caption
      blocks     title, sentences, head, lines, figures: what studies add to the page
"""
