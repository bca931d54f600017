// The verdict on two records from their facts, word for word as prune_jax.fairness gives it on the records.
// `table` is what prune_jax/report/ledger/site.py writes: setups and their fields, the rule of each field, the names
// of settings. A test compares this file with Python over random pairs of records.
"use strict";

const Verdict = (() => {
  const broken = (field, a, b) => ({ field, a, b });
  const text = (fact) => (fact === null ? null : fact[1]);
  const shown = (b) =>
    b.a === null && b.b === null
      ? `${b.field} unstated by both`
      : `${b.field} ${b.a || "unstated"} against ${b.b || "unstated"}`;
  const equal = (x, y) => x !== null && y !== null && x[0] === y[0];
  const near = (x, y, tolerance) =>
    x !== null && y !== null && (x === y || Math.max(x, y) <= (1 + tolerance) * Math.min(x, y));
  const sameBase = (a, b) => equal(a.base_model, b.base_model) && a.base_model[0] !== "";

  // Lists of [name, key, text]: settings that both state and that differ, in the order of the first.
  function differing(field, x, y) {
    const other = new Map(y.map((setting) => [setting[0], setting]));
    const names = x.filter((s) => other.has(s[0]) && other.get(s[0])[1] !== s[1]).map((s) => s[0]);
    if (!names.length) return null;
    const first = new Map(x.map((setting) => [setting[0], setting]));
    const side = (map) => names.map((name) => `${name}=${map.get(name)[2]}`).join(", ");
    return broken(field, side(first), side(other));
  }

  // Whether both are runs of this package, whose options are known where nothing is said of them.
  const ours = (a, b) => a.optimiser.options !== null && b.optimiser.options !== null;
  // What is left unsaid, and what is stated, which takes its place.
  const stated = (left, told) => [...new Map([...left, ...told].map((setting) => [setting[0], setting])).values()];

  // Options of a run of this package count only where both are such runs; a stated setting takes their place.
  function optimisers(a, b) {
    return [a, b].map(({ optimiser }) => stated(ours(a, b) ? optimiser.options : [], optimiser.stated));
  }

  // Of two runs of this package where one distils, the other says that it doesn't.
  function further(a, b) {
    const distils = [a, b].some((facts) => facts.settings.some((setting) => setting[0] === "distillation"));
    const left = ours(a, b) && distils ? [["distillation", JSON.stringify("no"), "no"]] : [];
    return [a, b].map((facts) => stated(left, facts.settings));
  }

  function unlikeImages(x, y, forms) {
    const differ = [];
    if (x.classes !== y.classes) differ.push(["classes", x.classes || "unstated", y.classes || "unstated"]);
    for (const form of forms) {
      const [p, q] = [x, y].map((side) => side.form.find((setting) => setting[0] === form));
      if (p && q && p[1] !== q[1]) differ.push([form, p[2], q[2]]);
    }
    if (x.content !== y.content) differ.push(["content", x.content, y.content]);
    return differ.length ? [1, 2].map((i) => differ.map((d) => `${d[0]} ${d[i]}`).join(", ")) : null;
  }

  // Rule -> what breaks a field, or null.
  const RULES = {
    same: (field, a, b) => (equal(a[field], b[field]) ? null : broken(field, text(a[field]), text(b[field]))),
    stated: (field, a, b) =>
      a[field] === null || b[field] === null || equal(a[field], b[field])
        ? null
        : broken(field, text(a[field]), text(b[field])),
    settings: (field, a, b) => differing(field, ...further(a, b)),
    optimiser: (field, a, b) => differing(field, ...optimisers(a, b)),
    base: (field, a, b) => (sameBase(a, b) ? null : broken(field, text(a[field]), text(b[field]))),
    dataset: (field, a, b, table) => {
      const [x, y] = [a[field], b[field]];
      if (x.name === null || x.name !== y.name) return broken(field, x.name, y.name);
      const unlike = unlikeImages(x, y, table.forms);
      return unlike && broken(field, ...unlike.map((told) => `${x.name} (${told})`));
    },
    rate: (field, a, b, table) => {
      let kinds = ["speedup", "compression"].map((kind, i) => [kind, a[field][i], b[field][i]]);
      const [[, s, t], [, c, d]] = kinds;
      if (s && t && s[0] === 1 && t[0] === 1 && c && d) kinds = kinds.slice(1); // masks: 1x says nothing
      const value = (fact) => (fact === null ? null : fact[0]);
      if (kinds.some(([, x, y]) => near(value(x), value(y), table.tolerance))) return null;
      const [kind, x, y] = kinds.find(([, p, q]) => p !== null && q !== null) || ["speedup", s, t];
      return broken(`rate (${kind})`, text(x), text(y));
    },
    total: (field, a, b) => {
      const which = sameBase(a, b) ? 1 : 0; // one base model is one pretraining, even where that is unstated
      const [x, y] = [a[field][which], b[field][which]];
      return equal(x, y) ? null : broken(field, text(x), text(y));
    },
    compute: (field, a, b, table) => {
      const which = sameBase(a, b) ? 1 : 0;
      let [x, y] = [a[field][which], b[field][which]];
      const [printed, theirs] = [a[field][2], b[field][2]];
      if ((x === null || y === null) && printed !== null && theirs !== null) [x, y] = [printed, theirs];
      const same = x !== null && y !== null && near(x[0], y[0], table.tolerance);
      return same ? null : broken(field, text(x), text(y));
    },
  };

  function assumed(a, b, table) {
    const names = a.measure[4] === b.measure[4] ? [] : ["metric"];
    const [x, y] = optimisers(a, b).map((settings) => new Set(settings.map((setting) => setting[0])));
    const all = [...new Set([...table.asked, ...x, ...y])].sort();
    names.push(...all.filter((name) => !x.has(name) || !y.has(name)).map((name) => `optimiser ${name}`));
    if (a.augmentation === null || b.augmentation === null) names.push("augmentation");
    const [s, t] = further(a, b).map((settings) => new Set(settings.map((setting) => setting[0])));
    const onesided = [...new Set([...s, ...t])].filter((name) => s.has(name) !== t.has(name)).sort();
    names.push(...onesided.map((name) => `settings ${name}`));
    const forms = [a, b].map((facts) => new Set(facts.dataset.form.map((setting) => setting[0])));
    return [...names, ...table.forms.filter((f) => forms[0].has(f) !== forms[1].has(f)).map((f) => `image ${f}`)];
  }

  // Which setups hold between two records: breaks[setup] is empty exactly where it holds.
  function judge(a, b, table) {
    const found = {};
    for (const [field, rule] of Object.entries(table.rules)) found[field] = RULES[rule](field, a, b, table);
    const breaks = {};
    for (const [setup, fields] of Object.entries(table.setups))
      breaks[setup] = fields.map((field) => found[field]).filter((each) => each !== null);
    const first = sameBase(a, b)
      ? null
      : differing("training from random weights:", a.pretraining, b.pretraining);
    const settings = [found.optimiser, found.augmentation, found.settings, first];
    const differ = settings.filter((each) => each !== null);
    const strictest = [...table.strictness].reverse().find((setup) => !breaks[setup].length) || null;
    return { breaks, differing: differ, assumed: assumed(a, b, table), strictest };
  }

  function explain(verdict, setup) {
    const named = verdict.breaks[setup].map((each) => JSON.stringify(each));
    const more = verdict.differing.filter((each) => !named.includes(JSON.stringify(each)));
    const though = more.length ? `, though settings differ: ${more.map(shown).join("; ")}` : "";
    if (!verdict.breaks[setup].length) return `${setup} holds${though}`;
    return `${setup} doesn't hold (${verdict.breaks[setup].map(shown).join("; ")})${though}`;
  }

  // ln of the gamma function for x > 0: Lanczos' series with g = 7 and nine terms.
  function lnGamma(x) {
    const c = [
      0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
      12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
    ];
    const sum = c.slice(1).reduce((total, each, i) => total + each / (x + i), c[0]);
    const t = x + 6.5;
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
  }

  // The regularised incomplete beta function by its continued fraction (Lentz); `rest` is 1 - x, exact where x is near 1.
  function betaShare(a, b, x, rest) {
    if (x <= 0) return 0;
    if (x > (a + 1) / (a + b + 2)) return 1 - betaShare(b, a, rest, x);
    const tiny = 1e-300;
    const away = (value) => (Math.abs(value) < tiny ? tiny : value);
    let [c, d] = [1, 1 / away(1 - ((a + b) * x) / (a + 1))];
    let fraction = d;
    for (let m = 1; m < 500; m++) {
      const steps = [
        (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
        (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
      ];
      let factor = 1;
      for (const step of steps) {
        d = 1 / away(1 + step * d);
        c = away(1 + step / c);
        factor = c * d;
        fraction *= factor;
      }
      if (Math.abs(factor - 1) < 1e-15) break;
    }
    const front = a * Math.log(x) + b * Math.log(rest) + lnGamma(a + b) - lnGamma(a) - lnGamma(b);
    return (Math.exp(front) * fraction) / a;
  }

  function untestable(a, b) {
    const told = (n) => (n === null ? "unstated" : n);
    if ([a, b].some((side) => side.n !== null && side.n < 2))
      return `n too small (n=${told(a.n)} and n=${told(b.n)}, a test needs 2 runs a side)`;
    const missing = ["std", "n"].filter((name) => a[name] === null || b[name] === null);
    if (missing.length) return `${missing.join(" and ")} unstated`;
    return a.std === 0 && b.std === 0 ? "no spread in either sample" : null;
  }

  // Welch's two-sided test; a minus b.
  function welch(a, b) {
    const difference = a.mean - b.mean;
    const whyNot = untestable(a, b);
    if (whyNot !== null) return { difference, p: null, whyNot };
    const [va, vb] = [a, b].map((side) => (side.std * side.std) / side.n);
    const t2 = (difference * difference) / (va + vb);
    const df = (va + vb) ** 2 / ((va * va) / (a.n - 1) + (vb * vb) / (b.n - 1));
    return { difference, p: betaShare(df / 2, 0.5, df / (df + t2), t2 / (df + t2)), whyNot: null };
  }

  // Two decimals, rounded to even where the value lies exactly between two, as Python does; toFixed rounds up.
  function fixed2(value) {
    const eighths = value * 8;
    if (Number.isInteger(eighths) && eighths % 2 !== 0) {
      const below = Math.floor(value * 100);
      return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2);
    }
    return value.toFixed(2);
  }

  // As Python's format "%.2g".
  function general2(value) {
    if (value === 0) return "0";
    const [digits, exponent] = value.toExponential(1).split("e");
    if (exponent < -4 || exponent >= 2) {
      const power = String(Math.abs(exponent)).padStart(2, "0");
      return `${digits.replace(/\.0$/, "")}e${exponent < 0 ? "-" : "+"}${power}`;
    }
    const plain = value.toFixed(Math.max(0, 1 - exponent));
    return plain.includes(".") ? plain.replace(/\.?0+$/, "") : plain;
  }

  const told = (test) => (test.p === null ? "untested" : `Welch p = ${general2(test.p)}`);
  const sampleOf = (facts) => {
    if (facts.sample === null) return null;
    const [mean, std, n, shownAs] = facts.sample;
    return { mean, std, n, shown: shownAs };
  };

  function missingFor(verdict, test, required, significance) {
    const missing = [];
    if (verdict.breaks[required].length || verdict.differing.length) missing.push(explain(verdict, required));
    if (test.p === null) missing.push(`significance can't be tested: ${test.whyNot}`);
    else if (test.p >= significance)
      missing.push(`the difference is not significant (${told(test)}, needed < ${significance})`);
    return missing;
  }

  function sentenceOf(names, samples, test, missing, required, measure, table) {
    const [name, unit, direction, sign] = measure;
    const plain = name === table.accuracy[0] && unit === table.accuracy[1] && direction === table.accuracy[2];
    const points = Math.abs(test.difference);
    const units = unit === "%" ? " points" : unit ? ` ${unit}` : "";
    const numbers = `${samples[0].shown} against ${samples[1].shown}`;
    const [first, second] = names;
    if (!missing.length) {
      const word = table.strictness.includes(required) ? "beats" : "is ahead of";
      const named = plain ? "" : ` in ${name} (${direction} is better)`;
      return `${first} ${word} ${second} by ${fixed2(points)}${units}${named} under ${required}: ${numbers}, ${told(test)}.`;
    }
    const amount = `${fixed2(points)}${units} ${sign > 0 ? "above" : "below"}`;
    let lead = `${first}'s ${name} is ${amount} ${second}'s (${numbers}; ${direction} is better)`;
    if (plain) lead = `${first} is ${amount} ${second} (${numbers})`;
    if (fixed2(points) === "0.00") lead = `${first} and ${second} are level (${numbers})`;
    return `${lead}, which doesn't show that it is better: ${missing.join("; ")}.`;
  }

  // The seeds that learnt nothing, as a sentence of its own.
  function stuck(both, names) {
    const named = both.map((facts, i) => facts.chance && `${facts.chance} of ${names[i]}`).filter(Boolean);
    return named.length ? ` At chance: ${named.join(", ")}.` : "";
  }

  // All that may be concluded from two records: verdict, test, winner and the sentence.
  function compare(a, b, names, table, required) {
    const verdict = judge(a, b, table);
    const none = (sentence) => ({ verdict, test: null, winner: null, sentence });
    const samples = [sampleOf(a), sampleOf(b)];
    if (samples.includes(null)) {
      const silent = names.filter((_, i) => samples[i] === null).join(" and ");
      return none(`Nothing to compare: accuracy unstated by ${silent}; ${explain(verdict, required)}.`);
    }
    if (!equal(a.metric, b.metric)) {
      const states = [a, b].map((facts, i) => `${names[i]} states ${facts.metric[1]}`);
      return none(`Nothing to compare: ${states.join("; ")}.`);
    }
    const test = welch(...samples);
    const ahead = a.measure[3] * test.difference >= 0;
    const ordered = (pair) => (ahead ? pair : [pair[1], pair[0]]);
    const missing = missingFor(judge(...ordered([a, b]), table), test, required, table.significance);
    const winner = missing.length ? null : ahead ? "a" : "b";
    let sentence = sentenceOf(ordered(names), ordered(samples), test, missing, required, a.measure, table);
    if (winner && verdict.assumed.length)
      sentence = `${sentence.slice(0, -1)}, taking as equal, though unstated: ${verdict.assumed.join(", ")}.`;
    return { verdict, test, winner, sentence: sentence + stuck([a, b], names) };
  }

  return { judge, compare, welch, explain, shown, general2, fixed2 };
})();
