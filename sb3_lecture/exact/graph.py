"""Graphs of a finite MDP: who can reach whom, who can stay for ever, who can end surely.

The undiscounted case (γ = 1) is decided by graphs, not by numbers: whether a policy ends with probability 1 is a question
about which probabilities are positive. Strong components follow Tarjan (1972, "Depth-first search and linear graph
algorithms"); end components and almost-sure reachability follow de Alfaro (1997, "Formal verification of probabilistic
systems", chapter 3). All functions are compiled and take the flat arrays of a TabularMDP.
"""

import numba
import numpy as np


@numba.njit(cache=True)
def strong_components(ptr: np.ndarray, head: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, int]:
    """Tarjan's strong components without recursion.

    :param ptr: first edge of each node, [S + 1]
    :param head: node each edge leads to, [E]
    :param keep: edges that count, bool [E]
    :return: component of each node, int32 [S], numbered so that every edge leads to an equal or lower number (sinks
        first), and the number of components
    """
    n = ptr.shape[0] - 1
    component = np.full(n, -1, np.int32)
    index = np.zeros(n, np.int32)  # order of discovery from 1; 0: not met yet
    low = np.zeros(n, np.int32)
    edge = np.empty(n, np.int64)  # next edge to follow
    path = np.empty(n, np.int32)  # the nodes of the current depth-first path
    stack = np.empty(n, np.int32)  # Tarjan's stack: nodes met and not yet in a component
    met, n_stack, n_components = 0, 0, 0
    for root in range(n):
        if index[root]:
            continue
        depth = 0
        path[0] = root
        while depth >= 0:
            s = path[depth]
            if not index[s]:
                met += 1
                index[s] = low[s] = met
                edge[s] = ptr[s]
                stack[n_stack] = s
                n_stack += 1
            deeper = False
            while edge[s] < ptr[s + 1]:
                j = edge[s]
                edge[s] += 1
                if not keep[j]:
                    continue
                t = head[j]
                if not index[t]:
                    depth += 1
                    path[depth] = t
                    deeper = True
                    break
                if component[t] < 0 and index[t] < low[s]:
                    low[s] = index[t]
            if deeper:
                continue
            if low[s] == index[s]:
                while True:
                    n_stack -= 1
                    t = stack[n_stack]
                    component[t] = n_components
                    if t == s:
                        break
                n_components += 1
            depth -= 1
            if depth >= 0 and low[s] < low[path[depth]]:
                low[path[depth]] = low[s]
    return component, n_components


@numba.njit(cache=True)
def group_by_component(component: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes sorted by component, in rising order inside one.

    :return: nodes, int32 [S], and the first place of each component, int64 [n_components + 1]
    """
    first = np.zeros(n_components + 1, np.int64)
    for c in component:
        first[c + 1] += 1
    first = np.cumsum(first)
    place = first[:-1].copy()
    nodes = np.empty(component.shape[0], np.int32)
    for s in range(component.shape[0]):
        nodes[place[component[s]]] = s
        place[component[s]] += 1
    return nodes, first


@numba.njit(cache=True)
def end_components(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, n_actions: int, allowed: np.ndarray
) -> None:
    """Keep the pairs with which one can stay for ever inside a set of states (the maximal end components).

    :param allowed: pairs (s, a) one may use, bool [S * A]; changed in place: a pair stays True if it belongs to an end
        component made of allowed pairs
    """
    ptr = row_ptr[::n_actions].copy()
    keep = np.empty(next_state.shape[0], np.bool_)
    changed = True
    while changed:
        changed = False
        for row in range(allowed.shape[0]):
            for j in range(row_ptr[row], row_ptr[row + 1]):
                keep[j] = allowed[row] and prob[j] > 0.0 and not terminated[j]
        component, _ = strong_components(ptr, next_state, keep)
        for row in range(allowed.shape[0]):
            if not allowed[row]:
                continue
            for j in range(row_ptr[row], row_ptr[row + 1]):
                if prob[j] > 0.0 and (terminated[j] or component[next_state[j]] != component[row // n_actions]):
                    allowed[row] = False
                    changed = True
                    break


@numba.njit(cache=True)
def reverse_rows(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, n_states: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows (s, a) from which each state can be entered without the episode's end.

    :return: first place of each state, int64 [S + 1], and the rows, int32 [entries]
    """
    ptr = np.zeros(n_states + 1, np.int64)
    for j in range(next_state.shape[0]):
        if prob[j] > 0.0 and not terminated[j]:
            ptr[next_state[j] + 1] += 1
    ptr = np.cumsum(ptr)
    place = ptr[:-1].copy()
    rows = np.empty(ptr[-1], np.int32)
    for row in range(row_ptr.shape[0] - 1):
        for j in range(row_ptr[row], row_ptr[row + 1]):
            if prob[j] > 0.0 and not terminated[j]:
                rows[place[next_state[j]]] = row
                place[next_state[j]] += 1
    return ptr, rows


@numba.njit(cache=True)
def search_backward(
    row_ptr: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    back_ptr: np.ndarray,
    back_rows: np.ndarray,
    n_actions: int,
    goal: np.ndarray,
    usable: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Breadth-first search backward from the ends.

    :param back_ptr: from ``reverse_rows``, [S + 1]
    :param back_rows: from ``reverse_rows``
    :param goal: states that count as ends besides the terminating outcomes, bool [S]
    :param usable: pairs one may use, bool [S * A]
    :return: an action that may come nearer to the end, int32 [S] (-1 in a goal, -2 where there is none); the states,
        nearest first and those that cannot end last, int32 [S]; how many can end
    """
    n = goal.shape[0]
    action = np.full(n, -2, np.int32)
    order = np.empty(n, np.int32)
    tail = 0
    for s in range(n):
        if goal[s]:
            action[s] = -1
        else:
            for row in range(s * n_actions, (s + 1) * n_actions):
                if action[s] == -2 and usable[row]:
                    for j in range(row_ptr[row], row_ptr[row + 1]):
                        if terminated[j] and prob[j] > 0.0:
                            action[s] = row - s * n_actions
                            break
        if action[s] != -2:
            order[tail] = s
            tail += 1
    first = 0
    while first < tail:
        t = order[first]
        first += 1
        for i in range(back_ptr[t], back_ptr[t + 1]):
            row = back_rows[i]
            s = row // n_actions
            if action[s] == -2 and usable[row]:
                action[s] = row - s * n_actions
                order[tail] = s
                tail += 1
    n_ending = tail
    for s in range(n):
        if action[s] == -2:
            order[tail] = s
            tail += 1
    return action, order, n_ending


@numba.njit(cache=True)
def surely_ending(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    n_actions: int,
    goal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A policy that reaches an end with probability 1 from every state where one exists.

    :param goal: states that count as ends besides the terminating outcomes, bool [S]
    :return: its actions, int32 [S] (-1 in a goal, -2 where no policy ends surely), and the states, nearest to the end
        first, int32 [S]
    """
    n = goal.shape[0]
    back_ptr, back_rows = reverse_rows(row_ptr, next_state, prob, terminated, n)
    usable = np.ones(n * n_actions, np.bool_)
    action, order, _ = search_backward(row_ptr, prob, terminated, back_ptr, back_rows, n_actions, goal, usable)
    while True:
        # pairs that may lead to a state that cannot end are forbidden; without them others may lose their way too
        forbidden = 0
        for t in range(n):
            if action[t] == -2:
                for i in range(back_ptr[t], back_ptr[t + 1]):
                    if usable[back_rows[i]]:
                        usable[back_rows[i]] = False
                        forbidden += 1
        if forbidden == 0:
            return action, order
        action, order, _ = search_backward(row_ptr, prob, terminated, back_ptr, back_rows, n_actions, goal, usable)
