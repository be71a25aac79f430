"use strict";
(() => {
  const POLL = 500, REST = 15, SPAN = 300_000, SHOWN_CHANGES = 50;
  const STATES = {
    CLOSED: ["✓", "Closed"], OPEN: ["✕", "Open"], HALF_OPEN: ["◐", "Half-open"],
    FORCED_OPEN: ["■", "Forced open"], DISABLED: ["○", "Disabled"], METRICS_ONLY: ["≈", "Metrics only"],
  };
  const TONES = { CLOSED: "closed", OPEN: "open", HALF_OPEN: "half", FORCED_OPEN: "forced", DISABLED: "off", METRICS_ONLY: "metrics" };
  const KINDS = {
    cb: "Circuit breakers", retry: "Retries", rate: "Rate limiters", bulkhead: "Bulkheads", pool: "Thread pools", time: "Time limiters",
  };
  const ACTIONS = [
    ["CLOSE", "Close", "Admits calls, and counts afresh"], ["OPEN", "Open", "Rejects calls for the usual wait"],
    ["HALF_OPEN", "Half-open", "Admits a few trial calls"], ["FORCE_OPEN", "Force open", "Rejects every call until told otherwise"],
    ["DISABLE", "Disable", "Admits every call, and counts nothing"], ["METRICS_ONLY", "Metrics only", "Admits every call, and counts"],
    ["RESET", "Reset", "Closes, and forgets whatever was counted"],
  ];
  const $ = (id) => document.getElementById(id);
  const instances = new Map(), sections = {}, counts = {};
  let last = 0, revision = 0, started = 0, writes = false, token = "", wanted = null, failing = null, offset = 0, dirty = true;
  let settings = {}, log = [], timer = 0, drawn = 0, ticks = 0;

  // Writes only what differs, so that a tick of many instances touches few nodes.
  const text = (node, value) => { if (node.shown !== value) { node.shown = value; node.textContent = value; } };
  const attr = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };
  const style = (node, name, value) => { const key = "_" + name; if (node[key] !== value) { node[key] = value; node.style.setProperty(name, value); } };
  const el = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };
  const number = new Intl.NumberFormat("en").format;
  const many = (n, thing) => `${number(n)} ${thing}${n === 1 ? "" : "s"}`;
  const percent = (rate) => rate === undefined ? "–" : (rate < 10 ? +rate.toFixed(1) : Math.round(rate)) + " %";
  const span = (ms) => ms < 1000 ? Math.round(ms) + " ms" : ms < 60_000 ? (ms < 10_000 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)) + " s"
    : ms < 3_600_000 ? Math.floor(ms / 60_000) + " min " + Math.round(ms % 60_000 / 1000) + " s" : (ms / 3_600_000).toFixed(1) + " h";
  const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
  const now = () => Date.now() + offset;
  const label = (state) => STATES[state] ? STATES[state][1] : state;
  const troubled = (one) => one.row.state === "OPEN" || one.row.state === "FORCED_OPEN" || one.row.state === "HALF_OPEN" || one.short;

  const section = (kind) => {
    if (sections[kind]) return sections[kind];
    const count = el("span"), title = el("h2", "", KINDS[kind] + " ", count), rows = el("div", "rows");
    title.id = "kind-" + kind;
    const node = el("section", "kind " + (kind === "cb" ? "cb" : "other"), title, rows);
    node.setAttribute("aria-labelledby", title.id);
    if (kind === "cb") {
      const head = el("div", "head");
      head.setAttribute("aria-hidden", "true");
      for (const name of ["State", "Name, and why", "Failed, threshold", "Slow, threshold", "Calls", "Last 5 minutes"]) head.append(el("span", "", name));
      rows.append(head);
    }
    const order = Object.keys(KINDS), after = order.slice(order.indexOf(kind) + 1).find((other) => sections[other]);
    $("instances").insertBefore(node, after ? sections[after].node : null);
    return sections[kind] = { node, rows, count, first: rows.childElementCount };
  };

  const bar = (name) => {
    const value = el("b"), top = el("small"), fill = el("u"), mark = el("s"), node = el("span", "bar", name + " ", value, top, el("i", "", fill, mark));
    return { node, value, top, fill, mark };
  };
  const draw = (one, value, share, limit) => {
    text(one.value, value);
    style(one.fill, "width", Math.max(0, Math.min(100, share)) + "%");
    one.node.classList.toggle("plain", limit === undefined);
    if (limit !== undefined) { style(one.mark, "left", `calc(${limit}% - 1px)`); text(one.top, ` / ${limit} %`); }
    const top = limit === undefined ? 100 : limit;
    one.node.classList.toggle("over", share >= top && share > 0);
    one.node.classList.toggle("near", share < top && share >= top * .7);
  };

  const create = (row) => {
    const { kind, name } = row, node = el("details", "row"), summary = el("summary"), more = el("div", "more");
    const one = { key: kind + "/" + name, kind, name, find: name.toLowerCase(), node, summary, more, row, past: [], samples: [] };
    one.why = el("span", "why");
    const title = el("span", "title", el("span", "name", name), one.why);
    one.limits = {}; one.calls = el("b"); one.rest = el("small");
    const calls = el("span", "calls", one.calls, " ", one.rest);
    if (kind === "cb") {
      one.pill = el("span", "pill"); one.failed = bar("failed"); one.slow = bar("slow"); one.strip = el("span", "strip");
      one.strip.setAttribute("role", "img");
      summary.append(one.pill, title, one.failed.node, one.slow.node, calls, one.strip);
    } else {
      one.use = bar(""); summary.append(title, one.use.node, calls);
    }
    node.append(summary, more);
    node.addEventListener("toggle", () => { if (node.open && !one.built) build(one); });
    const place = section(kind), rows = place.rows.children;
    let low = place.first, high = rows.length; // by name
    while (low < high) { const mid = low + high >> 1; if (rows[mid].named < name) low = mid + 1; else high = mid; }
    node.named = name;
    place.rows.insertBefore(node, rows[low] || null);
    instances.set(one.key, one);
    dirty = true;
    return one;
  };

  // What is only seen when somebody looks closer.
  const build = (one) => {
    one.built = true;
    one.settings = el("dl");
    if (one.kind === "cb") {
      one.numbers = el("dl"); one.history = el("ol");
      one.said = el("p", "said");
      one.said.setAttribute("role", "status");
      one.buttons = ACTIONS.map(([action, name, hint]) => {
        const button = el("button", "", name);
        button.type = "button"; button.title = hint; button.dataset.action = action;
        button.setAttribute("aria-label", `${name} ${one.name}: ${hint}`);
        button.addEventListener("click", () => operate(one, action));
        return button;
      });
      one.off = el("p", "quiet", "Writing is off: the service was given no operator's token.");
      one.set = el("div", "buttons", ...one.buttons);
      one.more.append(el("div", "", el("h3", "", "Operator"), one.set, one.off, one.said),
        el("div", "", el("h3", "", "Calls in the window"), one.numbers), el("div", "", el("h3", "", "What happened"), one.history));
    }
    one.more.append(el("div", "settings", el("h3", "", "Settings"), one.settings));
    detail(one);
  };

  const pairs = (list, entries) => {
    if (list.childElementCount !== entries.length * 2) {
      list.replaceChildren();
      for (let i = 0; i < entries.length; i++) list.append(el("dt"), el("dd"));
    }
    entries.forEach(([name, value], i) => {
      const term = list.children[2 * i];
      if (term.shown !== name) { // a long name may break before its capitals
        term.shown = name;
        term.replaceChildren(...name.split(/(?=[A-Z])/).flatMap((part, at) => at ? [el("wbr"), part] : [part]));
      }
      text(list.children[2 * i + 1], value);
    });
  };

  const detail = (one) => {
    pairs(one.settings, settings[one.key] || []);
    if (one.kind !== "cb") return;
    const [buffered, failed, slow, slowFailed, refused, trials, late] = one.row.numbers;
    pairs(one.numbers, [["successful", number(buffered - failed)], ["failed", number(failed)], ["slow", number(slow)], ["slow and failed", number(slowFailed)],
      ["not permitted", number(refused)], ["trial calls under way", number(trials)], ["late results, ever", number(late)], ["mean duration", one.mean || "–"]]);
    const shown = one.past.slice(-12).reverse();
    const key = shown.length + "@" + (shown.length ? shown[0].at : "");
    if (one.historyKey !== key) {
      one.historyKey = key;
      one.history.replaceChildren(...(shown.length ? shown.map((event) => el("li", "", el("time", "", clock(event.at)), line(event))) : [el("li", "quiet", "none kept")]));
    }
    one.set.hidden = !writes; one.off.hidden = writes;
  };

  const line = (event) => event.to ? `${label(event.from)} → ${label(event.to)}` : event.text ? event.text
    : event.kind.toLowerCase().replaceAll("_", " ") + (event.rate === undefined ? "" : ` at ${percent(event.rate)}`);

  const limitOf = (one, setting) => {
    const all = settings[one.key];
    if (one.read !== all) { one.read = all; one.limits = Object.fromEntries(all || []); }
    return one.limits[setting] || "";
  };

  const reason = (one, failureLimit, slowLimit) => {
    const { row } = one, [buffered, , , , refused, trials] = row.numbers;
    const by = one.past.findLast((event) => event.kind === "OPERATOR" && event.at >= one.since - 500);
    const hand = by ? ", " + by.text : "";
    const again = row.retryAfter === undefined ? "" : row.retryAfter > 0 ? `, tries again in ${span(row.retryAfter)}` : ", tries again with the next call";
    switch (row.state) {
      case "OPEN":
        if (row.failureRate >= failureLimit) return `${percent(row.failureRate)} of calls failed, threshold ${failureLimit} %${again}`;
        if (row.slowRate >= slowLimit) return `${percent(row.slowRate)} of calls were slow, threshold ${slowLimit} %${again}`;
        return `opened by hand or by a result${hand}${again}`;
      case "HALF_OPEN": return `trying: ${many(trials, "trial call")} under way, ${number(buffered)} of ${limitOf(one, "permittedNumberOfCallsInHalfOpenState") || "? calls"} done${hand}`;
      case "FORCED_OPEN": return `held open by hand${hand}`;
      case "DISABLED": return `admits every call, counts nothing${hand}`;
      case "METRICS_ONLY": return `counts, never opens${hand}`;
      default: return row.failureRate === undefined ? (buffered ? `too few calls to judge: ${number(buffered)}` : "no calls yet") + hand
        : `window of ${limitOf(one, "slidingWindowSize")}` + (refused ? `, ${number(refused)} not permitted` : "") + hand;
    }
  };

  const breaker = (one) => {
    const { row } = one, [buffered, failed, slow, , refused, trials, , , timed, micros] = row.numbers;
    const failureLimit = parseFloat(limitOf(one, "failureRateThreshold")) || 100, slowLimit = parseFloat(limitOf(one, "slowCallRateThreshold")) || 100;
    if (one.state !== row.state) {
      if (one.state) { announce.push(`${one.name}: ${label(row.state)}`); one.since = now(); }
      one.node.classList.remove(one.state); one.pill.classList.remove(one.state);
      one.node.classList.add(row.state); one.pill.classList.add(row.state);
      const sign = el("span", "", STATES[row.state][0] + " ");
      sign.setAttribute("aria-hidden", "true");
      one.pill.replaceChildren(sign, label(row.state));
      one.state = row.state; one.stale = true; dirty = true;
    }
    const samples = one.samples, time = performance.now();
    samples.push([time, timed, micros]);
    while (samples.length > 2 && time - samples[0][0] > 5000) samples.shift();
    const [t0, c0, m0] = samples[0], calls = timed - c0, rate = time - t0 > 500 ? calls / (time - t0) * 1000 : 0;
    if (calls > 0) one.mean = span((micros - m0) / calls / 1000).replace(/^0 ms$/, "under 1 ms");
    else if (timed > 0 && !one.mean) one.mean = span(micros / timed / 1000).replace(/^0 ms$/, "under 1 ms");
    draw(one.failed, percent(row.failureRate), row.failureRate || 0, failureLimit);
    draw(one.slow, percent(row.slowRate), row.slowRate || 0, slowLimit);
    text(one.calls, many(buffered, "call") + (rate >= .05 ? `, ${rate < 10 ? rate.toFixed(1) : number(Math.round(rate))}/s` : "") + (one.mean ? `, ${one.mean}` : ""));
    text(one.rest, `${number(failed)} failed, ${number(slow)} slow` + (refused ? `, ${number(refused)} not permitted` : "") + (trials ? `, ${number(trials)} on trial` : ""));
    text(one.why, reason(one, failureLimit, slowLimit));
    attr(one.summary, "aria-label", `${one.name}, ${label(row.state)}, ${percent(row.failureRate)} failed, ${percent(row.slowRate)} slow, ${number(buffered)} calls`);
  };

  const others = {
    retry: (one, [plain, retried, failed, exhausted]) => {
      const all = plain + retried + failed + exhausted, again = retried + exhausted;
      draw(one.use, `${all ? percent(again / all * 100) : "–"} retried`, all ? again / all * 100 : 0);
      text(one.calls, many(all, "call"));
      text(one.rest, `${number(retried)} well after a retry, ${number(exhausted)} failed after retries, ${number(failed)} failed at once`);
      text(one.why, `up to ${limitOf(one, "maxAttempts")} attempts`);
    },
    rate: (one, [available, limit, waiting, wait, ok, refused]) => {
      draw(one.use, `${number(available)} of ${number(limit)} left`, limit ? (limit - available) / limit * 100 : 0);
      text(one.calls, `${number(ok)} permitted, ${number(refused)} refused`);
      text(one.rest, (waiting ? `${number(waiting)} waiting` : "nobody waits") + (wait ? `, the next permit in ${span(wait)}` : ""));
      text(one.why, `${number(limit)} every ${limitOf(one, "limitRefreshPeriod")}`);
      one.short = available <= 0 && waiting > 0;
    },
    bulkhead: (one, [running, most, waiting, ok, rejected]) => {
      draw(one.use, `${number(running)} of ${number(most)} under way`, most ? running / most * 100 : 100);
      text(one.calls, `${many(ok, "call")}, ${number(rejected)} rejected`);
      text(one.rest, waiting ? `${number(waiting)} waiting` : "nobody waits");
      text(one.why, `${many(most, "call")} at once, ${limitOf(one, "maxWaitDuration") === "0s" ? "no waiting" : "waits up to " + limitOf(one, "maxWaitDuration")}`);
      one.short = running >= most;
    },
    pool: (one, [active, most, queued, capacity, threads, ok, rejected]) => {
      draw(one.use, `${number(active)} of ${number(most)} threads busy`, most ? active / most * 100 : 100);
      text(one.calls, `${many(ok, "call")}, ${number(rejected)} rejected`);
      text(one.rest, `${number(queued)} of ${number(capacity)} queued, ${many(threads, "thread")}`);
      text(one.why, `up to ${many(most, "thread")}`);
      one.short = active >= most && queued >= capacity;
    },
    time: (one, [timeout, ok, failed, timedOut]) => {
      const all = ok + failed + timedOut;
      draw(one.use, `${all ? percent(timedOut / all * 100) : "–"} timed out`, all ? timedOut / all * 100 : 0);
      text(one.calls, many(all, "call"));
      text(one.rest, `${number(timedOut)} timed out, ${number(failed)} failed`);
      text(one.why, `gives a call up after ${span(timeout)}`);
    },
  };

  const shade = (state) => `var(--${state === "CLOSED" ? "calm" : TONES[state]})`;

  // The states of the last minutes as one background, from the transitions kept.
  const strip = (one, end) => {
    const begin = end - SPAN, moves = one.past.filter((event) => event.to), stops = [];
    let state = moves.length ? moves[0].from : one.row.state, from = 0;
    const add = (to) => { const tone = shade(state); stops.push(`${tone} ${from.toFixed(2)}%`, `${tone} ${to.toFixed(2)}%`); };
    for (const move of moves) {
      const at = Math.max(0, Math.min(100, (move.at - begin) / SPAN * 100));
      if (at > from) { add(at); from = at; }
      state = move.to;
    }
    state = one.row.state; add(100);
    one.strip.style.background = stops.length > 2 ? `linear-gradient(to right,${stops})` : shade(one.row.state);
    const recent = moves.filter((move) => move.at >= begin);
    attr(one.strip, "aria-label", recent.length ? `last 5 minutes: ${recent.length} transitions, the last to ${label(recent.at(-1).to)} at ${clock(recent.at(-1).at)}` : `last 5 minutes: ${label(one.row.state)}`);
    one.stale = false;
  };

  const announce = [];
  const apply = (snapshot) => {
    offset = snapshot.time - Date.now();
    if (started && snapshot.started !== started) { // another process answers: all is asked for again
      last = 0; revision = 0; log = []; settings = {}; started = snapshot.started;
      for (const one of instances.values()) one.past = [];
      return;
    }
    started = snapshot.started;
    last = snapshot.last; revision = snapshot.revision; writes = snapshot.writes;
    for (const key in snapshot.settings) { settings[key] = snapshot.settings[key]; if (instances.has(key)) instances.get(key).still = 0; }
    for (const event of snapshot.events) {
      log.push(event);
      const one = instances.get("cb/" + event.name), early = one ? one.past : (pending[event.name] ||= []);
      early.push(event);
      if (early.length > 200) early.shift();
      if (one) { one.stale = true; one.still = 0; }
      if (one && event.to) one.since = event.at;
      if (event.kind === "REFUSED") announce.push(event.text);
    }
    log = log.slice(-SHOWN_CHANGES);
    const seen = new Set();
    for (const row of snapshot.instances) {
      const key = row.kind + "/" + row.name;
      let one = instances.get(key);
      if (!one) { one = create(row); if (row.kind === "cb" && pending[row.name]) { one.past = pending[row.name]; delete pending[row.name]; const moved = one.past.findLast((event) => event.to); if (moved) one.since = moved.at; } }
      seen.add(key);
      one.row = row;
      // What stands still needs no drawing once its rates have come to rest.
      const form = JSON.stringify(row);
      if (one.form !== form) { one.form = form; one.still = 0; } else if (++one.still > REST && !one.node.open) continue;
      const short = one.short;
      if (row.kind === "cb") breaker(one); else others[row.kind](one, row.numbers);
      if (short !== one.short) dirty = true;
      if (one.node.open) { if (one.built) detail(one); else build(one); }
    }
    for (const [key, one] of instances) if (!seen.has(key)) { one.node.remove(); instances.delete(key); delete settings[key]; dirty = true; }
    const time = now();
    if (time - drawn > 5000) { drawn = time; for (const one of instances.values()) if (one.strip) one.stale = true; }
    for (const one of instances.values()) if (one.strip && one.stale) strip(one, time);
    if (dirty) { dirty = false; overview(); filter(); }
    if (snapshot.events.length) changes();
    $("operator").hidden = !writes;
    if (announce.length) text($("announce"), announce.splice(0).slice(0, 5).join(", "));
  };
  const pending = {};

  const overview = () => {
    const by = {};
    const trouble = [];
    for (const one of instances.values()) {
      if (one.kind === "cb") by[one.row.state] = (by[one.row.state] || 0) + 1;
      if (troubled(one)) trouble.push(one);
    }
    for (const state of Object.keys(STATES)) {
      if (!counts[state]) { const value = el("b"); $("counts").append(counts[state] = el("li", state, value, el("span", "", STATES[state][1]))); counts[state].number = value; }
      text(counts[state].number, number(by[state] || 0));
      counts[state].classList.toggle("none", !by[state]);
    }
    document.title = (by.OPEN || by.FORCED_OPEN ? `(${(by.OPEN || 0) + (by.FORCED_OPEN || 0)} open) ` : "") + "resile";
    trouble.sort((a, b) => (a.kind !== "cb") - (b.kind !== "cb") || (a.name < b.name ? -1 : 1));
    $("attention").hidden = !trouble.length;
    const list = $("attentionList"), shown = trouble.slice(0, 16), focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : "";
    const old = new Map([...list.querySelectorAll("button")].map((button) => [button.dataset.key, button]));
    list.replaceChildren(...shown.map((one) => {
      const button = old.get(one.key) || el("button");
      button.type = "button"; button.dataset.key = one.key;
      text(button, `${one.name}: ${one.kind === "cb" ? label(one.row.state).toLowerCase() : one.kind === "rate" ? "out of permits" : "full"}`);
      button.onclick = () => { if (one.node.hidden) { $("query").value = ""; $("show").value = "all"; filter(); } one.node.open = true; one.summary.focus(); one.node.scrollIntoView({ block: "center" }); };
      return el("li", "", button);
    }));
    if (trouble.length > shown.length) list.append(el("li", "", `and ${trouble.length - shown.length} more`));
    if (focused) (old.get(focused)?.isConnected ? old.get(focused) : $("query")).focus();
  };

  const filter = () => {
    const query = $("query").value.trim().toLowerCase(), show = $("show").value, of = {};
    let seen = 0;
    for (const one of instances.values()) {
      const keep = one.find.includes(query) && (show === "all" || show === one.kind || (show === "attention" && troubled(one)) || one.node.contains(document.activeElement) && show === "attention");
      if (one.node.hidden === keep) one.node.hidden = !keep;
      const count = of[one.kind] ||= [0, 0];
      count[1]++;
      if (keep) { seen++; count[0]++; }
    }
    for (const kind in sections) {
      const [some, all] = of[kind] || [0, 0];
      sections[kind].node.hidden = !some;
      text(sections[kind].count, some === all ? number(all) : `${number(some)} of ${number(all)}`);
    }
    text($("shown"), instances.size ? `${number(seen)} of ${number(instances.size)} shown` : "no instances yet");
  };

  const changes = () => {
    $("changes").replaceChildren(...log.slice().reverse().map((event) => el("li", "", el("time", "", clock(event.at)), el("b", "", event.name), line(event))));
    $("noChanges").hidden = log.length > 0;
  };

  const state = (on, words) => { $("live").className = "live " + (on ? "on" : "lost"); text($("liveText"), words); };
  const poll = async () => {
    clearTimeout(timer);
    const began = performance.now();
    let wait = POLL;
    try {
      const answer = await fetch(`resile/snapshot?since=${last}&revision=${revision}`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(`the service answers ${answer.status}`);
      const snapshot = await answer.json();
      performance.mark("tick");
      await apply(snapshot);
      if (ticks++ % 100 === 0) performance.clearMeasures("tick");
      performance.measure("tick", "tick"); performance.clearMarks("tick");
      failing = null;
      state(true, "live");
      $("banner").hidden = true;
    } catch (error) {
      failing ||= Date.now();
      wait = 2000;
      state(false, "not live");
      text($("banner"), `No answer since ${clock(failing)}: what is shown may be old (${error.message}).`);
      $("banner").hidden = false;
    }
    clearTimeout(timer);
    timer = setTimeout(poll, document.hidden ? 5000 : Math.max(100, wait - (performance.now() - began)));
  };

  const say = (one, words, bad) => { one.said.classList.toggle("bad", !!bad); one.said.textContent = words; };
  const ask = (wrong) => { text($("askWrong"), wrong || ""); $("token").value = ""; if (!$("ask").open) $("ask").showModal(); $("token").focus(); };
  const operate = async (one, action) => {
    if (!token) { wanted = [one, action]; return ask(); }
    for (const button of one.buttons) button.setAttribute("aria-disabled", "true");
    say(one, "asking …");
    try {
      const answer = await fetch("circuitbreakers/" + encodeURIComponent(one.name), {
        method: "POST", cache: "no-store", signal: AbortSignal.timeout(5000),
        headers: { "content-type": "application/json", authorization: "Bearer " + token }, body: JSON.stringify({ updateState: action }),
      });
      const body = await answer.json().catch(() => ({}));
      if (answer.status === 401) {
        forget();
        say(one, "The token was refused.", true);
        wanted = [one, action];
        ask("The token was refused. Nothing was changed.");
      } else if (answer.ok) {
        say(one, `Done: the state is ${label(body.currentState)}.`);
        poll();
      } else say(one, `Not done: ${body.message || answer.status}`, true);
    } catch (error) { say(one, `Not done: ${error.message}`, true); }
    for (const button of one.buttons) button.removeAttribute("aria-disabled");
  };
  const held = () => { text($("operatorText"), token ? "token in use" : ""); text($("operator"), token ? "Forget the token" : "Operator token"); };
  const forget = () => { token = ""; held(); };

  $("operator").addEventListener("click", () => { if (token) forget(); else { wanted = null; ask(); } });
  $("askCancel").addEventListener("click", () => $("ask").close());
  $("ask").addEventListener("close", () => { $("token").value = ""; if (!token) wanted = null; });
  $("askForm").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = $("token").value.trim();
    if (!/^[!-~]+$/.test(given)) return ask("A token is made of visible ASCII characters.");
    token = given;
    held();
    const then = wanted;
    wanted = null;
    $("ask").close();
    if (then) { operate(...then); then[0].buttons.find((button) => button.dataset.action === then[1]).focus(); }
  });
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("query").addEventListener("input", filter);
  $("show").addEventListener("change", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && !$("ask").open) { event.preventDefault(); $("query").focus(); }
    if (event.key === "Escape" && event.target === $("query")) { $("query").value = ""; filter(); }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  $("where").textContent = "on " + location.host;
  poll();
})();
