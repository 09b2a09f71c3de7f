"""Batch comparison: ``spec`` lists runs, ``harness`` does one, ``batch`` all, ``store`` keeps them.

``nptp_opt.comparison.tables`` and ``page`` report what a results file holds.
"""
