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
    unpooled     sentences: models whose folds make no pooled score, and why (`studies.folds`)
    rows         one a run, done or not: the columns of `run_table.COLUMNS`, auc_<class>, and
                 under "more" the scores that only its task has
    comparisons  one for each data digest, test slice, task, target and validation slice:
      number, heading, task, data, test, test_samples, classes, sentences, scored_recipes
      resampled  column, groups: where intervals resample groups of images
      score      name of the score that picks models: auc, r2
      more       names of the scores that only its task has
      models     the best by validation first:
        place, label, job, model, variant, runs (of how many seeds), run (that validation picks)
        folds (run of each, of a cross-validation whose folds are pooled)
        valid_score, <score>_mean, _sd (n - 1), _min, _max     over the seeds
        <score>_low, _high, interval                           95%, and what it covers
        difference, _low, _high, p_value, resolved, visible,   to the best (`significance.infer`)
        seeds_needed, sample_sd, seed_sd
        bootstrap_p_value, seed_p_value                        other tests, of one noise alone
        delong                                                 by class: difference, error, p_value
        train_seconds, device, reference_hours, parameters_m, gflops, pareto
      by         scores by a quantity, where that was asked for (`studies.selection.study`)
      ensembles  of the runs of each model (`studies.ensembles.ensembles`):
        label, members, runs, best_run, calibrated, valid_score
        <score>, _low, _high, ece_floor                        of auc, accuracy, ... on the test
        member_scores, best_score, mean_score                  of its members
        over_best, over_mean                                   gain, low, high, p_value, resolved
      pretraining  of pairs of models (`studies.gains.pretraining.gains`)
      restored   of networks that restore images, and baselines (`studies.restoration.restored`):
        label, kind, <score>, _low, _high
        seen     by each classifier that was asked (`studies.gains.survival`)
      figures    name (of the files), caption
      blocks     title, headline, sentences, head, lines, figures: what studies add to the page
    transfer     one for each model that was tested on other data than its own:
      model, task, score
      trainings    name, digest (names the content), own (name of the own test set, or null)
                   details (`data.valid`, `data.classes` and `data.channels`, where set, as text)
      tests        name, digest, slice, images, class_counts
      cells        one for each training set and test set with runs that are done:
        training, test, own, runs (folders), evaluations (those of them that are evaluations)
        doubt                                why the score may mislead (images seen), or null
        <score>, _low, _high, interval       means over the seeds, 95%, and what that covers
        reference, difference, _low, _high,  on the same images, to the training set `reference`
        _p (after Holm), _resolved
        loss, _low, _high, _p, _resolved,    from the own test set to this one, of the same
        _covers, _runs                       networks
      missing      training, test, runs, of: cells with fewer runs than their training set has
      repeated     folders of runs that score a network on images that another run scores it on
      notes        sentences: what could not be computed, and what is left out
      run_notes    note, cells: what evaluations say of their scores
    adaptation   one for each model that was adapted to images without labels:
      model, task, score
      gains        one for each adaptation of a training on each test set that both were scored on:
        training (without it), adapted (to what and how), test, own (test set), images, seeds
        control, score                       means over the seeds, without and with it
        gain, low, high, p_value (after Holm), resolved, visible, covers
        labelled                             training, score: of one that has such labels, or null
        doubt                                why the scores may mislead, or null
      notes        sentences: what could not be computed, and what is left out
    studies      one for each comparison that only a cell of a matrix shows, of one model:
      number (of its figures), model, training, test (names of the matrix and the cell)
      ensembles, by                        as in a comparison
"""
