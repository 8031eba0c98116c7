# Ruby: threads switched by timer signals, fibers, forks, a collector that compacts. Prints "ruby ok".
def check(ok, what) = ok || (puts "FAILED: #{what}"; exit! 1)
GC.stress = false
sums = 6.times.map { |i| Thread.new { (1..20000).sum { |k| k * i } } }.map(&:value)
check sums == 6.times.map { |i| i * 200010000 }, "threads"
fiber = Fiber.new { 1000.times { |i| Fiber.yield i } ; nil }
check 1000.times.map { fiber.resume }.sum == 499500, "fibers"
got = 0
trap("USR1") { got += 1 }
20.times { |i| Process.kill "USR1", $$; Thread.pass until got > i }
check got == 20, "signals"
r, w = IO.pipe
4.times.map { |i| fork { w.puts i * 10; exit! 0 } }.each { |p| Process.wait p }
w.close
check r.read.split.map(&:to_i).sort == [0, 10, 20, 30], "forks"
def deep(n) = deep(n + 1) + 1
check((begin deep 0; rescue SystemStackError; :caught end) == :caught, "stack")
keep = []
50000.times { |i| keep << "k#{i}" * 3; keep.shift(500) if keep.size > 1000 }
GC.start; GC.compact rescue nil
check keep.last == "k49999" * 3, "survivors"
check (1..500).inject(:*).to_s.size == 1135, "500!"
check `echo child`.chomp == "child", "child"
begin Timeout rescue require "timeout" end
check((begin Timeout.timeout(0.1) { loop {} }; rescue Timeout::Error; :late end) == :late, "timeout")
puts "ruby ok"
