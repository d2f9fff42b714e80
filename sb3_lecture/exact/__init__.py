"""What is known exactly: the laws of envs, their graphs, chains and solvers, and the grades that follow from them.

One way through the room, each file handing on once: ``law`` (what an env states) → ``graph`` (who can end) → ``chain`` (the
value of a policy) → ``solver`` (the optimum) → ``grade`` (a model held against it) → ``callbacks`` (while it learns).
Of games with hidden information: ``exploitability_tree`` (the game written out) → ``exploitability``.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "callbacks": ["ExactEvalCallback"],
        "chain": ["policy_evaluation"],
        "exploitability": ["best_response", "exact_strength", "exploitability", "match_value", "strategy_table"],
        "exploitability_callback": ["ExploitabilityCallback"],
        "exploitability_tree": ["GameTree"],
        "grade": ["ExactGrader", "ExactPrediction", "ExactResult", "exact_evaluation", "exact_prediction"],
        "in_support": ["in_support_optimum", "offline_grade"],
        "law": ["law_of"],
    },
)
