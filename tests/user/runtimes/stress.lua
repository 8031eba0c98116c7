-- LuaJIT's traces are written, linked to each other and left at side exits all the time. Prints "lua ok".
local function check(ok, what) if not ok then print("FAILED: " .. what) os.exit(1) end end
local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end
check(fib(24) == 46368, "fib")
local t = {}
for i = 1, 200000 do t[i % 1000 + 1] = (t[i % 1000 + 1] or 0) + (i % 7 == 0 and 0.5 or 1) end
local s = 0
for _, v in ipairs(t) do s = s + v end
check(s == 200000 - 28571 * 0.5, "sum " .. s)
for round = 1, 300 do                       -- new code, again and again
    local f = (loadstring or load)("local n = ... local s = 0 for i = 1, n do s = s + (i % " .. (round % 13 + 2) .. ") end return s")
    local want = 0
    for i = 1, 500 do want = want + i % (round % 13 + 2) end
    check(f(500) == want, "round " .. round)
    if round % 50 == 0 and jit then jit.flush() end
end
local co = coroutine.wrap(function() for i = 1, 20000 do coroutine.yield(i) end end)
local n = 0
for i = 1, 20000 do n = n + co() end
check(n == 200010000, "coroutines")
check(not pcall(function() local x = nil; return x.y end), "error")
local ok, e = pcall(function() local function f(x) return 1 + f(x) end return f(1) end)
check(not ok, "stack")
local words = {}
for w in string.gmatch(string.rep("alpha beta gamma ", 3000), "%a+") do words[#words + 1] = w end
check(#words == 9000 and table.concat(words):find("gammaalpha"), "words")
if jit then
    local ffi = require("ffi")
    ffi.cdef "int qsort(void *, size_t, size_t, int (*)(const int *, const int *));"
    local a = ffi.new("int[100]")
    for i = 0, 99 do a[i] = i * 37 % 101 end
    local cb = ffi.cast("int (*)(const int *, const int *)", function(x, y) return x[0] - y[0] end)
    ffi.C.qsort(a, 100, 4, cb)
    for i = 1, 99 do check(a[i - 1] <= a[i], "qsort") end
end
print("lua ok")
