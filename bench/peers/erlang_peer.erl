%% SPDX-License-Identifier: MIT
%%
%% Erlang/OTP with one scheduler (run.py starts it with +S 1:1 and without busy waiting, so that waiting
%% costs no processor time). Erlang has no channels: a round trip is a message there and one back. A handle
%% on a process is a monitor. Processor time comes in whole milliseconds: the counts are large enough.
-module(erlang_peer).
-export([main/0, init/1, start_idle/1]).

-define(SLEEP_ROUNDS, 4).

cpu_ns() ->
    {Ms, _} = statistics(runtime),
    Ms * 1000000.

memory_bytes() ->
    {ok, F} = file:open("/proc/self/status", [read]),
    Sum = status_lines(F, 0),
    file:close(F),
    Sum.

status_lines(F, Sum) ->
    case io:get_line(F, "") of
        eof -> Sum;
        "VmRSS:" ++ L -> status_lines(F, Sum + kb(L));
        "VmPTE:" ++ L -> status_lines(F, Sum + kb(L));
        _ -> status_lines(F, Sum)
    end.

kb(L) ->
    [N | _] = string:tokens(L, " \t"),
    list_to_integer(N) * 1024.

row(What, Metric, Value) ->
    io:format("{\"case\": \"~s\", \"metric\": \"~s\", \"value\": ~.3f}~n", [What, Metric, float(Value)]).

next_sleep(State) ->
    S = (State * 6364136223846793005 + 1442695040888963407) band 16#FFFFFFFFFFFFFFFF,
    {100 + (S bsr 33) rem 1000, S}.

times(0, _) -> ok;
times(N, F) -> F(), times(N - 1, F).

yield_times(0) -> ok;
yield_times(N) -> erlang:yield(), yield_times(N - 1).

bench(switch, N) ->
    Start = cpu_ns(),
    Refs = [spawn_monitor(fun() -> yield_times(N div 2) end) || _ <- [1, 2]],
    join(Refs),
    row("yield", "ns", (cpu_ns() - Start) / N);
bench(spawn, N) ->
    Start = cpu_ns(),
    times(N, fun() -> join([spawn_monitor(fun() -> ok end)]) end),
    row("join", "ns", (cpu_ns() - Start) / N);
bench(channel, N) ->
    Echo = spawn(fun echo/0),
    Start = cpu_ns(),
    N = ping(Echo, N, 0),
    row("round trip", "ns", (cpu_ns() - Start) / N);
bench(parked, N) ->
    erlang:garbage_collect(),
    Before = memory_bytes(),
    All = spawn_all(N, fun() -> receive go -> ok end end),
    row(integer_to_list(N), "bytes", (memory_bytes() - Before) / N),
    [exit(P, kill) || P <- All];
bench(sleepers, N) ->
    Me = self(),
    {Times, _} = lists:mapfoldl(fun(_, S) -> sleeps(?SLEEP_ROUNDS, S, []) end, 1, lists:seq(1, N)),
    All = [spawn(fun() -> receive go -> ok end, [receive after T -> ok end || T <- Ts], Me ! done end)
           || Ts <- Times],
    yield_times(2),
    Start = cpu_ns(),
    [P ! go || P <- All],
    times(N, fun() -> receive done -> ok end end),
    row(integer_to_list(N), "ns", (cpu_ns() - Start) / (N * ?SLEEP_ROUNDS));
bench(growth, N) ->
    Turns = max(1, 4000000 div N),
    Me = self(),
    All = spawn_all(N, fun() -> receive go -> ok end, yield_times(Turns), Me ! done end),
    erlang:garbage_collect(),
    Start = cpu_ns(),
    [P ! go || P <- All],
    times(N, fun() -> receive done -> ok end end),
    row(integer_to_list(N), "ns", (cpu_ns() - Start) / (N * Turns)).

bench_actor(ping, N) ->
    Echo = spawn(fun bounce/0),
    Start = cpu_ns(),
    volley(Echo, N),
    row("round trip", "ns", (cpu_ns() - Start) / N);
bench_actor(ping2, N) ->
    Me = self(),
    spawn_opt(fun() -> Me ! {echo, spawn_opt(fun bounce/0, [{scheduler, 2}])}, ok end, [{scheduler, 2}]),
    Echo = receive {echo, E} -> E end,
    spawn_opt(fun() ->
        Start = cpu_ns(),
        Wall = erlang:monotonic_time(nanosecond),
        volley(Echo, N),
        Me ! {done, erlang:monotonic_time(nanosecond) - Wall, cpu_ns() - Start}
    end, [{scheduler, 1}]),
    receive {done, W, C} ->
        row("round trip, wall", "ns", W / N),
        row("round trip, processor", "ns", C / N)
    end;
bench_actor(link, N) ->
    process_flag(trap_exit, true),
    Start = cpu_ns(),
    times(N, fun() -> P = spawn_link(fun() -> ok end), receive {'EXIT', P, _} -> ok end end),
    row("spawn, exit", "ns", (cpu_ns() - Start) / N);
bench_actor(idle, N) ->
    bench(parked, N);
bench_actor(many, N) ->
    Me = self(),
    Start = cpu_ns(),
    [spawn(fun() -> times(N div 1000, fun() -> Me ! {ping, 0} end) end) || _ <- lists:seq(1, 1000)],
    times(N div 1000 * 1000, fun() -> receive {ping, _} -> ok end end),
    row("1000 senders", "ns", (cpu_ns() - Start) / N);
bench_actor(selective, N) ->
    choose(N),
    Alone = choose(N),
    times(100000, fun() -> self() ! {ping, 0} end),
    Among = choose(N div 1000),
    row("none waiting", "ns", Alone),
    row("100000 waiting", "ns", Among),
    row("100000 to none", "x", Among / Alone);
bench_actor(restart, N) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {ok, Sup} = supervisor:start_link(?MODULE, N),
    [{ok, _} = supervisor:start_child(Sup, []) || _ <- lists:seq(1, N)],
    Ns = lists:sum([restart_round(Sup, N) || _ <- lists:seq(1, 10)]),
    row("kill, restart", "us", Ns / 1000 / 10 / N).

init(N) when is_integer(N) ->
    {ok, {#{strategy => simple_one_for_one, intensity => 100 * N, period => 1},
          [#{id => idle, start => {?MODULE, start_idle, [whereis(bench)]}}]}}.

start_idle(To) ->
    Pid = spawn_link(fun() -> To ! begun, receive stop -> ok end end),
    {ok, Pid}.

restart_round(Sup, N) ->
    Pids = [P || {_, P, _, _} <- supervisor:which_children(Sup)],
    flush(),
    Start = cpu_ns(),
    [exit(P, kill) || P <- Pids],
    times(N, fun() -> receive begun -> ok end end),
    cpu_ns() - Start.

flush() ->
    receive begun -> flush() after 0 -> ok end.

bounce() ->
    receive
        {From, ping} -> From ! {self(), ping}, bounce();
        stop -> ok
    end.

volley(_, 0) -> ok;
volley(Echo, N) ->
    Echo ! {self(), ping},
    receive {Echo, ping} -> volley(Echo, N - 1) end.

choose(N) ->
    Me = self(),
    Start = cpu_ns(),
    times(N, fun() -> Me ! wanted, receive wanted -> ok end end),
    (cpu_ns() - Start) / N.

join([]) -> ok;
join([{_, R} | Rest]) ->
    receive {'DOWN', R, process, _, _} -> join(Rest) end.

echo() ->
    receive {From, V} -> From ! V + 1, echo() end.

ping(_, 0, Got) -> Got;
ping(Echo, N, Got) ->
    Echo ! {self(), Got},
    receive V -> ping(Echo, N - 1, V) end.

spawn_all(N, F) ->
    All = [spawn(F) || _ <- lists:seq(1, N)],
    yield_times(2),
    All.

sleeps(0, S, Ts) -> {Ts, S};
sleeps(N, S, Ts) ->
    {T, Next} = next_sleep(S),
    sleeps(N - 1, Next, [T | Ts]).

default(switch) -> 10000000;
default(spawn) -> 1000000;
default(channel) -> 2000000;
default(growth) -> 1000;
default(_) -> 100000.

actor_default(ping) -> 2000000;
actor_default(ping2) -> 200000;
actor_default(link) -> 1000000;
actor_default(idle) -> 100000;
actor_default(restart) -> 10000;
actor_default(_) -> 2000000.

main() ->
    register(bench, self()),
    case init:get_plain_arguments() of
        ["actor", Name, S] -> bench_actor(list_to_existing_atom(Name), list_to_integer(S));
        ["actor", Name] -> B = list_to_existing_atom(Name), bench_actor(B, actor_default(B));
        _ -> main_bench()
    end,
    halt(0).

main_bench() ->
    [Name | Rest] = init:get_plain_arguments(),
    Bench = list_to_existing_atom(Name),
    N = case Rest of
            [S] -> list_to_integer(S);
            [] -> default(Bench)
        end,
    bench(Bench, N),
    halt(0).
